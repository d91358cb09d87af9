"""`sapoolc sweep`: a recipe times axes, trained run by run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sapool.errors import visible

if TYPE_CHECKING:
    from sapool.study.sweep.supervisor import Standing

SUMMARY = "train every run of a study: a recipe times axes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help="a TOML file (docs/studies.md), or a shipped study: digits")
    parser.add_argument("--folder", metavar="DIR", help="where the study is kept, and goes on (default: studies/STUDY)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time on this machine (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="list and check the runs; train nothing, write nothing")
    parser.add_argument("--retry", action="store_true", help="try those runs again that failed")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(options: argparse.Namespace) -> int:
    from sapool.study.sweep.sweep import prepare, sweep

    prepared = prepare(options.study, options.folder, jobs=options.jobs, dry=options.dry_run)
    from sapool.cli.console import console, show_report
    from sapool.cli.runs.standing import LiveStanding
    from sapool.runs.process.signals import advise

    out = console(stderr=options.json)
    show_report(out, prepared.report())
    wanted = [run for run in prepared.runs if not run.refused]
    if options.dry_run:
        for planned in wanted:
            out.print(planned.name, markup=False)
        out.print(f"{len(wanted):,} runs would be trained; nothing was written")
        return 0
    again = f"go on with: sapoolc sweep {visible(options.study)} --folder {visible(str(prepared.path))}"
    if wanted:
        out.print(f"{len(wanted):,} runs; study in {visible(str(prepared.path))}", markup=False)
    advise(f"what was saved is kept; {again}")
    totals = {run.name: run.recipe.train.epochs or 0 for run in wanted if run.recipe is not None}
    with LiveStanding(out, totals) as live:
        _, standing = sweep(prepared, live.show, retry=options.retry)
    return finish(prepared.path, standing, as_json=options.json)


def finish(path: Path, standing: Standing, *, as_json: bool = False) -> int:
    """Shows the table of a study whose runs are over; the exit code."""
    from sapool.cli.console import console, show_report
    from sapool.study.table import study_table

    table = study_table(path)
    if as_json:
        print(json.dumps(table.as_data(), indent=2))
    else:
        out = console()
        out.print()
        show_report(out, table.report())
        out.print(f"\nthe table again, as CSV or LaTeX: sapoolc compare {visible(str(path))} --csv FILE --latex FILE",
                  markup=False)  # fmt: skip
    return 1 if standing.count("failed") else 0
