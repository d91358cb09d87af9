"""`sapoolc compare`: runs side by side, accuracy against cost; or a study's table."""

from __future__ import annotations

import argparse
import json

from sapool.errors import InputError, visible
from sapool.weights.atomic import check_writable, write_text

SUMMARY = "table and plot of runs, or of a study: accuracy against cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN|STUDY", nargs="+", help="the runs' folders, or one study's")
    parser.add_argument("-o", "--output", metavar="FILE", default="compare.png", help="the plot (a PNG)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--csv", metavar="FILE", help="of a study: write its table as CSV")
    parser.add_argument("--latex", metavar="FILE", help="of a study: write its table for LaTeX")


def run(options: argparse.Namespace) -> int:
    from sapool.runs.folder import recipe_of
    from sapool.study.sweep.folder import is_study

    for file in filter(None, (options.output, options.csv, options.latex)):
        check_writable(file)
    studies = [folder for folder in options.runs if is_study(folder)]
    if studies and len(options.runs) > 1:
        raise InputError(f"{studies[0]} is a study, and has a table of its own: name it alone, or runs of it")
    if studies:
        return _study(studies[0], options)
    if options.csv or options.latex:
        raise InputError("--csv and --latex write the table of a study, and these are runs; --json prints theirs")
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


def _study(folder: str, options: argparse.Namespace) -> int:
    from sapool.cli.console import console, show_report
    from sapool.study.compare import plot_study
    from sapool.study.table import study_table

    table = study_table(folder)
    if options.csv:
        write_text(options.csv, table.to_csv())
    if options.latex:
        write_text(options.latex, table.to_latex())
    plotted = plot_study(table, options.output)
    if options.json:
        print(json.dumps(table.as_data(), indent=2))
        return 0
    written = [file for file in (options.output if plotted else None, options.csv, options.latex) if file]
    said = (f"written: {', '.join(map(visible, written))}",) if written else ()
    show_report(console(), (*table.report(), *said))
    return 0
