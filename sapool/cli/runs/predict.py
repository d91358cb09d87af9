"""`sapoolc predict`: what a run's best model sees in images."""

from __future__ import annotations

import argparse
import json

from sapool.cli.options import add_threshold_option
from sapool.errors import InputError

SUMMARY = "classify images with a run's best model, or find and draw boxes in them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders of images, or quoted patterns")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="how many classes of each image (default: 3)")
    add_threshold_option(parser)
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="of detectors: where the drawings go (default: RUN/predictions)"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    if options.top < 1:
        raise InputError(f"--top: expected a positive number, not {options.top}")
    from sapool.runs.folder import recipe_of
    from sapool.runs.protocol import as_names
    from sapool.tasks import open_run

    recipe_of(options.run)  # what isn't there is answered before torch is loaded
    images = as_names(options.images)

    opened = open_run(options.run)
    predictions = opened.predict(
        images,
        top=options.top,
        threshold=options.threshold,
        output=options.output or opened.path / "predictions",
    )
    from sapool.cli.console import console, show_report

    if options.json:
        print(json.dumps(predictions.as_data(), indent=2))
    else:
        show_report(console(), predictions.report())
    return 0
