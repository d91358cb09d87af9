"""`sapoolc evaluate`: what a run's best model is worth."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sapool.cli.options import check_there, is_model_file, size
from sapool.errors import InputError
from sapool.grammar import parse

SUMMARY = "measure a run's best model on its test set (detectors: validation), by class"

_OF_DATA = ("weights", "root", "image_size", "in_chans", "dialect")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="RUN|STUDY|TEXT|FILE",
        help="the run's folder, or a study's for each of its runs; or with --data an architecture, or a model (.pt)",
    )
    given = parser.add_argument_group("weights from elsewhere, on a data set")
    given.add_argument("--data", metavar="NAME", help="the data set, for instance stl10")
    given.add_argument(
        "--weights", metavar="FILE", help="of an architecture: a checkpoint, the authors' too, or DEFAULT"
    )
    given.add_argument("--root", metavar="DIR", help="the folder that holds the data (default: in the user's cache)")
    given.add_argument(
        "--image-size",
        type=size,
        metavar="PIXELS|HxW",
        help="(default: the model's, that of the authors' runs, or the data's)",
    )
    given.add_argument("--in-chans", type=int, metavar="N", help="channels of the images (default: the model's, or 3)")
    given.add_argument("--dialect", metavar="NAME", help="(default: paper for the authors' checkpoints)")
    steady = parser.add_argument_group("how steady a classifier's run is (also in steadiness.json)")
    steady.add_argument(
        "--shifts",
        type=int,
        nargs="?",
        const=8,
        metavar="PIXELS",
        help="how often two crops, moved by up to so many pixels (8), get the same class",
    )
    steady.add_argument(
        "--corruptions", nargs="?", const="all", metavar="NAMES", help="top1 on corrupted images: all, or names by ','"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    asked = options.shifts is not None or options.corruptions is not None
    if options.data is not None:
        if asked:
            raise InputError("--shifts and --corruptions are of a run, which has its own data; leave out --data")
        return _measure(options)
    only = [name for name in _OF_DATA if getattr(options, name) is not None]
    if only:
        raise InputError(f"--{only[0].replace('_', '-')} goes with --data: a run has its own weights and data")
    from sapool.study.sweep.folder import is_study

    if is_study(options.run):
        return _study(options)
    from sapool.tasks import open_run

    opened = open_run(options.run)
    if asked and not hasattr(opened, "steadiness"):
        raise InputError(f"{options.run} is a detector's run; --shifts and --corruptions are of classifiers")
    measured = _steadiness(options, opened) if asked else None
    from sapool.cli.console import console, show_report
    from sapool.cli.runs.progress import ConsoleProgress

    with ConsoleProgress() as progress:
        evaluation = opened.evaluate(None if options.json else progress)
    if options.json:
        more = {"steadiness": measured.as_data()} if measured is not None else {}
        print(json.dumps({**evaluation.as_data(), **more}, indent=2))
    else:
        show_report(console(), evaluation.report())
        if measured is not None:
            show_report(console(), measured.report())
    return 0


def _study(options: argparse.Namespace) -> int:
    """Measures every finished run of a study that wasn't measured so yet, and shows the study's table."""
    from sapool.cli.console import console, show_report
    from sapool.study.measures import are_measured
    from sapool.study.sweep.folder import open_study
    from sapool.study.table import study_table
    from sapool.tasks import open_run

    if options.shifts is None and options.corruptions is None:
        raise InputError(
            f"{options.run} is a study, and each of its runs was evaluated when it ended: say what else is to be "
            "measured, --shifts or --corruptions, or name a run of it"
        )
    study = open_study(options.run)
    finished = [study.folder(run.name) for run in study.wanted if study.finished(run.name)]
    if not finished:
        raise InputError(f"{options.run}: no run of this study is finished yet, so there is nothing to measure")
    left = [path for path in finished if not are_measured(path, options.shifts, _corruptions(options))]
    for place, path in enumerate(left, start=1):
        opened = open_run(path)
        if not hasattr(opened, "steadiness"):
            raise InputError(f"{options.run} is a study of detectors; --shifts and --corruptions are of classifiers")
        measured = _steadiness(options, opened)
        if not options.json:
            console().print(f"{place} of {len(left)}: {path.name}, top1 {measured.top1:.4f}", markup=False)
    table = study_table(options.run)
    if options.json:
        print(json.dumps(table.as_data(), indent=2))
    else:
        show_report(console(), table.report())
    return 0


def _steadiness(options: argparse.Namespace, opened: Any) -> Any:
    return opened.steadiness(shifts=options.shifts, corruptions=_corruptions(options))


def _corruptions(options: argparse.Namespace) -> list[str]:
    from sapool.classify.steadiness import CORRUPTIONS

    names = [] if options.corruptions is None else options.corruptions.split(",")
    return list(CORRUPTIONS) if names == ["all"] else names


def _measure(options: argparse.Namespace) -> int:
    from sapool.catalogue.data_sets import DATA_SETS

    DATA_SETS.find(options.data)
    if not is_model_file(options.run):
        parse(options.run)
    check_there(options.run if is_model_file(options.run) else None, options.weights)
    from sapool.classify.measure import measure
    from sapool.cli.console import console, show_report

    measured = measure(options.run, options.data, **{name: getattr(options, name) for name in _OF_DATA})
    if options.json:
        print(json.dumps(measured.as_data(), indent=2))
    else:
        show_report(console(), measured.report())
    return 0
