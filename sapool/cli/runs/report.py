"""`sapoolc report`: a page of networks and runs that opens without a server."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import TYPE_CHECKING

from sapool.cli.options import add_model_options, assumptions, is_run_folder, opened
from sapool.errors import InputError, require_extra, visible
from sapool.weights.atomic import check_writable, write_text

if TYPE_CHECKING:
    from sapool.inspection.network import Network
    from sapool.inspection.run import RunView
    from sapool.report.page import Page

SUMMARY = "one HTML file of networks and runs: graphs, memory, curves; opens without a server"
PACKAGES = ("bokeh", "jinja2")
_SHEETS = 12
"""Sheets of heatmaps on a page, so that it stays a few megabytes large."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subjects",
        metavar="RUN|STUDY|TEXT|FILE",
        nargs="+",
        help="folders of runs and studies, architectures, plans (.json) or models (.pt)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", default="report.html", help="the page (default: report.html)")
    parser.add_argument(
        "--no-stream", action="store_true", help="leave out schedules by bands of rows, which take time"
    )
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    require_extra("report", "a report", PACKAGES)
    if not options.output.endswith(".html"):
        raise InputError(f"{options.output}: a report is a page; name it .html")
    check_writable(options.output)
    assumptions(options)
    subjects = list(dict.fromkeys(options.subjects))
    _refuse(subjects)
    from sapool.cli.console import console
    from sapool.report.page import Page

    page = Page(
        "sapool: " + (", ".join(Path(s).name for s in subjects) if len(subjects) < 4 else f"{len(subjects)} networks")
    )
    _add(page, subjects, options)
    write_text(options.output, page.html())
    size = Path(options.output).stat().st_size
    console().print(f"report of {len(subjects)} in {visible(options.output)} ({size / 1e6:.1f} MB)", markup=False)
    return 0


def _refuse(subjects: list[str]) -> None:
    """Names what is no subject before anything is measured."""
    from sapool.runs.folder import recipe_of
    from sapool.study.sweep.folder import is_study

    for subject in subjects:
        if is_study(subject):
            continue
        if Path(subject).is_dir():
            recipe_of(subject)
        elif "/" in subject and not Path(subject).exists():
            raise InputError(f"there is no run and no file {subject}")


def _add(page: Page, subjects: list[str], options: argparse.Namespace) -> None:
    from sapool.inspection.run import look_at_run
    from sapool.study.sweep.folder import is_study
    from sapool.study.table import study_table

    for study in filter(is_study, subjects):
        page.add_study(study_table(study))
    subjects = [subject for subject in subjects if not is_study(subject)]
    runs = [subject for subject in subjects if is_run_folder(subject)]
    seen: dict[str, RunView] = {
        subject: look_at_run(subject, sheets=max(1, _SHEETS // max(len(runs), 1))) for subject in runs
    }
    networks: dict[str, Network] = {}
    of: dict[str, str] = {}
    for subject in subjects:
        name, network = _network(subject, options, networks)
        networks[name] = network
        of[subject] = name
    if len(subjects) > 1:
        page.add_table("side by side", _COLUMNS, [_row(s, networks[of[s]], seen.get(s)) for s in subjects])
    for network in networks.values():
        page.add_network(network)
    for view in seen.values():
        page.add_run(view)


_COLUMNS = (
    "subject",
    "architecture",
    "image",
    "reached",
    "parameters",
    "MACs",
    "peak, bytes",
    "arena, bytes",
    "streamed",
)


def _row(subject: str, network: Network, run: RunView | None) -> tuple[str, ...]:
    reached = dict(run.summary) if run is not None else {}
    score = reached.get("test accuracy") or reached.get("bbox mAP") or ""
    figures = [f"{ours:,}" for _, ours, _ in network.figures]
    return (Path(subject).name, network.architecture, network.image, score, *figures, *[""] * (5 - len(figures)))


def _network(subject: str, options: argparse.Namespace, known: dict[str, Network]) -> tuple[str, Network]:
    """A subject's network, and what it is the same as: runs of one network share it on the page."""
    from sapool.inspection.network import look_at
    from sapool.inspection.run import network_of_run

    if is_run_folder(subject):
        model = network_of_run(subject)
    else:
        own = copy.copy(options)
        own.text = subject
        model = opened(own)
    name = f"{model.plan.to_json()} {model.origin.optimized} {model.origin.shapes}"
    if name in known:
        return name, known[name]
    return name, look_at(model, assumptions(options), streamed=not options.no_stream)
