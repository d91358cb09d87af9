"""`sapoolc prune`: fewer channels, and training again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sapool.cli.options import check_there, is_model_file
from sapool.cost.budget import parse_size
from sapool.errors import InputError, visible
from sapool.weights.atomic import check_writable

SUMMARY = "take channels out of a trained model, and train it again by its run's recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN|FILE", help="a classifier's run, or a model (.pt), which isn't trained again"
    )
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="of the run's recipe, when training again")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--macs", type=float, metavar="N", help="multiply-accumulates at most: a part of the model's, or a number"
    )
    target.add_argument("--budget", metavar="SIZE", help="peak activation memory at most, for instance 256KB")
    parser.add_argument(
        "--importance",
        default="magnitude",
        metavar="NAME",
        help="magnitude (of weights, default) or batchnorm (scales)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the pruned model (default: pruned.pt in the run)")
    parser.add_argument("--run-dir", metavar="DIR", help="where the new run is kept (default: runs/RUN-pruned-TIME)")
    parser.add_argument("--no-train", action="store_true", help="only prune")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    from sapool.runs.folder import recipe_of

    if options.budget:
        parse_size(options.budget)
    target = {"macs": options.macs, "budget": options.budget, "importance": options.importance}
    if options.output:
        check_writable(options.output)
    if is_model_file(options.run):
        return _prune_file(options, target)
    recipe_of(options.run)  # one that holds no run is answered before torch is loaded
    from sapool.classify.prune import finetune, prune_run
    from sapool.cli.console import console, show_report
    from sapool.cli.runs.progress import ConsoleProgress

    pruning = prune_run(options.run, output=options.output, **target)
    if not options.json:
        show_report(console(), pruning.report())
    if options.no_train:
        if options.json:
            print(json.dumps(pruning.as_data(), indent=2))
        return 0
    with ConsoleProgress() as shown:
        progress = None if options.json else shown
        fit = finetune(options.run, pruning.file, options.run_dir, overrides=options.overrides, progress=progress)
    if fit.stopped is not None:
        console(stderr=True).print(
            f"stopped; go on with: sapoolc train --resume --run-dir {visible(str(fit.folder))}", markup=False
        )
        return 128 + fit.stopped
    if options.json:
        print(json.dumps({**pruning.as_data(), "run": str(fit.folder), "summary": fit.as_data()}, indent=2))
    else:
        show_report(console(), fit.report())
    return 0


def _prune_file(options: argparse.Namespace, target: dict[str, object]) -> int:
    if options.overrides or options.run_dir or options.no_train:
        raise InputError(f"{options.run} is a model and no run: it is only pruned; leave out what is for training")
    if not options.output:
        raise InputError("where to? Name the pruned model's file with -o, for instance -o pruned.pt")
    check_there(options.run)
    from sapool.classify.prune import Pruning
    from sapool.cli.console import console, show_report
    from sapool.model_file import load, save
    from sapool.prune.search import prune

    pruned = prune(load(options.run), **target)  # type: ignore[arg-type]
    save(pruned.model, options.output)
    pruning = Pruning(pruned, Path(options.output))
    if options.json:
        print(json.dumps(pruning.as_data(), indent=2))
    else:
        show_report(console(), pruning.report())
    return 0
