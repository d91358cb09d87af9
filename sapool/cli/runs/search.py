"""`sapoolc search`: what of a space of networks fits a budget, told without training; and the best of it, trained."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from sapool.cli.options import size
from sapool.errors import InputError, visible

if TYPE_CHECKING:
    from sapool.study.search.found import Found
    from sapool.study.search.space import Space
    from sapool.study.search.training import Training

SUMMARY = "search a space of networks for those that fit a budget, and train the best of them"
_OF_TRAINING = {"folder": None, "trials": 16, "epochs": None, "factor": 3, "jobs": 1, "retry": False}
"""Flags that mean something with `--recipe` alone, and what they are where they aren't given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("space", metavar="SPACE", nargs="?", help="a TOML file (docs/studies.md); flags go before it")
    parser.add_argument("--backbone", action="append", metavar="NAME", help="may be given several times, as the others")
    parser.add_argument("--pool", action="append", metavar="KIND", help="a pooling with its modifiers")
    parser.add_argument("--strides", action="append", metavar="DIGITS", help="such as 1222, or choices: [12]22[12]")
    parser.add_argument("--prepool", action="append", metavar="KIND-STRIDE", help="such as nlp-4; none for no prepool")
    parser.add_argument("--image-size", action="append", type=size, metavar="PIXELS|HxW", help="(default: 224)")
    parser.add_argument("--num-classes", type=int, metavar="N", help="outputs of the classifier (default: 1000)")
    parser.add_argument("--in-chans", type=int, metavar="N", help="channels of the images (default: 3)")
    parser.add_argument("--budget", metavar="SIZE", help="of the arena of activations, for instance 256KB")
    parser.add_argument("--macs", metavar="COUNT", help="the most, for instance 50M")
    parser.add_argument("--params", metavar="COUNT", help="the most, for instance 1M")
    parser.add_argument("--device", metavar="NAME", help="a board (sapoolc list devices): its SRAM and its flash")
    parser.add_argument("--sample", type=int, metavar="N", help="look at N networks, drawn at random, in place of all")
    training = parser.add_argument_group("training", "of what fits, by successive halving; without --recipe none")
    training.add_argument("--recipe", metavar="RECIPE", help="a shipped recipe's name or a .toml file: on what")
    training.add_argument("--folder", metavar="DIR", help="of the search's study (default: studies/search-RECIPE)")
    training.add_argument("--trials", type=int, metavar="N", help="networks that are begun (default: 16)")
    training.add_argument("--epochs", type=int, metavar="N", help="of those that go to the end (default: the recipe's)")
    training.add_argument(
        "--factor", type=int, metavar="N", help="of N runs one goes on to N times as many epochs (default: 3)"
    )
    training.add_argument("--jobs", type=int, metavar="N", help="runs at a time on this machine (default: 1)")
    training.add_argument("--retry", action="store_true", default=None, help="try those runs again that failed")
    training.add_argument("--no-train", action="store_true", help="train nothing, which is so without --recipe, too")
    parser.add_argument("--json", action="store_true", help="print as JSON, with everything that fits")


def run(options: argparse.Namespace) -> int:
    from sapool.cost.limits import read_limits
    from sapool.study.search.space import read_space

    limits = read_limits(
        {"memory": options.budget, "macs": options.macs, "parameters": options.params, "device": options.device}
    )
    if not limits:
        raise InputError("which budget? Name one or some of --budget 256KB, --macs 50M, --params 1M, --device NAME")
    if options.sample is not None and options.sample < 1:
        raise InputError(f"--sample: expected at least 1, not {options.sample}")
    training = _training(options)
    names = {
        "backbones": options.backbone, "pools": options.pool, "strides": options.strides,
        "prepools": options.prepool and ["" if one == "none" else one for one in options.prepool],
        "image_sizes": options.image_size, "num_classes": options.num_classes, "in_chans": options.in_chans,
    }  # fmt: skip
    space = read_space(options.space, names)
    from sapool.cli.console import console, show_report
    from sapool.study.search.analytic import look

    if training is not None:
        space = _on(training, space)
    found = look(space, limits, options.sample, jobs=os.cpu_count() or 1)
    out = console(stderr=options.json)
    if not options.json:
        show_report(out, (*found.report(), *(() if training or found.closest else (_advice_on(found),))))
    if found.closest:
        if options.json:
            print(json.dumps(found.as_data(), indent=2))
        print(f"sapoolc: {found.closest}", file=sys.stderr)
        return 1
    code, told = (0, {}) if training is None else _train(training, found, space, options)
    if options.json:
        print(json.dumps(found.as_data() | told, indent=2))
    return code


def _training(options: argparse.Namespace) -> Training | None:
    """What is to be trained, where something is."""
    given = [name for name in _OF_TRAINING if getattr(options, name) is not None]
    if options.recipe is None:
        if given:
            raise InputError(f"--{given[0]}: nothing is trained without --recipe")
        return None
    if options.no_train:
        raise InputError("--recipe is what is trained on, and --no-train trains nothing; leave one of them out")
    from sapool.study.search.training import plan_training

    chosen = {**_OF_TRAINING, **{name: getattr(options, name) for name in given}}
    del chosen["retry"]
    return plan_training(options.recipe, **chosen)


def _on(training: Training, space: Space) -> Space:
    from sapool.study.search.training import space_on
    from sapool.study.sweep.checks import classes_of

    return space_on(training, space, classes_of(training.base.data.model_copy(update={"image_size": 0})))


def _advice_on(found: Found) -> str:
    from sapool.recipes.inputs import size_text

    best = found.front[-1].candidate
    return (
        "nothing is trained; with --recipe RECIPE some of what fits are, or one of them by: sapoolc train RECIPE "
        f"architecture={best.text} data.image_size={size_text(best.image_size)}"
    )


def _train(training: Training, found: Found, space: Space, options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Trains some of what fits; the exit code, and what programs read of it."""
    from sapool.cli.console import console, show_report
    from sapool.cli.runs.standing import LiveStanding
    from sapool.runs.process.signals import advise
    from sapool.study.search.outcome import conclude
    from sapool.study.search.training import prepare
    from sapool.study.sweep.sweep import sweep

    prepared, known = prepare(training, found)
    out = console(stderr=options.json)
    show_report(out, (*prepared.report(), *training.report(len(prepared.runs))))
    advise(f"what was saved is kept; the same command goes on in {visible(str(training.path))}")
    with LiveStanding(out, {run.name: training.epochs for run in prepared.runs}) as live:
        study, _ = sweep(prepared, live.show, retry=bool(options.retry))
    outcome = conclude(training, study, known, space)
    if not options.json:
        out.print()
        show_report(out, outcome.report())
    return (1 if outcome.failed or outcome.winner is None else 0), {"training": outcome.as_data()}
