"""`sapoolc compare`: runs side by side, accuracy against cost."""

from __future__ import annotations

import argparse
import json

from sapool.errors import visible
from sapool.weights.atomic import check_writable

SUMMARY = "table and plot of runs: accuracy against cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the runs' folders")
    parser.add_argument("-o", "--output", metavar="FILE", default="compare.png", help="the plot (a PNG)")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    from sapool.runs.folder import recipe_of

    check_writable(options.output)
    for folder in options.runs:
        recipe_of(folder)  # one that holds no run is answered before torch is loaded
    from sapool.cli.console import console, show_report
    from sapool.study.compare import compare

    comparison = compare(options.runs)
    comparison.plot(options.output)
    if options.json:
        print(json.dumps(comparison.as_data(), indent=2))
        return 0
    out = console()
    show_report(out, (*comparison.report(), f"plot in {visible(str(options.output))}"))
    return 0
