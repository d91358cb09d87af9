"""`sapoolc evaluate`: what a run's best model is worth."""

from __future__ import annotations

import argparse
import json

SUMMARY = "measure a run's best model on its test set (detectors: validation), by class"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    from sapool.tasks import open_run

    opened = open_run(options.run)
    from sapool.cli.runs.progress import ConsoleProgress
    from sapool.cli.tables import console, show_report

    evaluation = opened.evaluate(None if options.json else ConsoleProgress())
    if options.json:
        print(json.dumps(evaluation.as_data(), indent=2))
    else:
        show_report(console(), evaluation.report())
    return 0
