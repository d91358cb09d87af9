"""`sapoolc heatmap`: where a run's best model looks."""

from __future__ import annotations

import argparse

from sapool.cli.options import add_threshold_option

SUMMARY = "draw the weights of a run's pools over images, and Grad-CAM"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders of images, or quoted patterns")
    parser.add_argument("--label", metavar="CLASS", help="the true class (default: the image's folder, if it is one)")
    parser.add_argument("-o", "--output", metavar="DIR", help="where the sheets go (default: RUN/heatmaps)")
    add_threshold_option(parser)


def run(options: argparse.Namespace) -> int:
    from sapool.runs.folder import recipe_of
    from sapool.runs.protocol import as_names
    from sapool.tasks import open_run

    recipe_of(options.run)  # what isn't there is answered before torch is loaded
    images = as_names(options.images)

    heatmaps = open_run(options.run).heatmap(
        images, label=options.label, threshold=options.threshold, output=options.output
    )
    from sapool.cli.console import console, show_report

    show_report(console(), heatmaps.report())
    return 0
