"""`sapoolc compile`: from a text to the plan, the cost, and the file that is asked for."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sapool.cli.modules import add_module_options
from sapool.cli.options import add_model_options, add_pass_option, assumptions, given_flags, opened
from sapool.cli.written import format_written, is_streamed, write
from sapool.errors import DiagnosedError, InputError, visible
from sapool.weights.atomic import check_writable

if TYPE_CHECKING:
    from sapool.recipes.detection import DetectionRecipe

SUMMARY = "parse, plan and rewrite; print the plan and the cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        metavar="TEXT|FILE",
        help="an architecture, a plan (.json), a model (.pt), a run, or a detector's recipe",
    )
    add_model_options(parser)
    add_module_options(parser)
    add_pass_option(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the suffix says what is written (sapoolc list formats); of a detector's recipe .py: its mmdet config",
    )
    parser.add_argument(
        "--calibrate",
        metavar="FOLDER|RUN|noise",
        help="of files that a runtime runs: images to fit integers to, and to compare on (default: a run's own)",
    )
    parser.add_argument(
        "--budget", metavar="SIZE", help="stream as little as fits, for instance 256KB; fail where nothing does"
    )
    parser.add_argument("--strict", action="store_true", help="treat diagnostics as errors")
    parser.add_argument("--acknowledge", action="append", default=[], metavar="CODE", help="a diagnostic that is known")
    parser.add_argument("--json", action="store_true", help="print plan, cost and diagnostics as JSON")


def run(options: argparse.Namespace) -> int:
    if recipe := _detector(options.text):
        return _write_config(recipe, options)
    from sapool.catalogue.devices import DEVICES
    from sapool.catalogue.diagnostics import check_codes
    from sapool.cost.budget import parse_size

    _refuse_backbone(options.text)
    written = format_written(options)
    budget = parse_size(options.budget) if options.budget else None
    check_codes(options.acknowledge)
    if written is not None:
        check_writable(options.output)
    assumed = assumptions(options)
    board = DEVICES.find(options.device) if options.device else None
    model = opened(options, real=written is not None and written.weights)
    from sapool.cli.console import console, show_report
    from sapool.cli.memory import MemoryCheck
    from sapool.cli.tables import as_data, show_diagnostics, show_summary, thousands
    from sapool.cost.comparison import compare
    from sapool.diagnostics import diagnose, unacknowledged

    cost = compare(model, assumed)
    diagnostics = unacknowledged(diagnose(model, cost), options.acknowledge)
    if diagnostics and options.strict:
        raise DiagnosedError("\n".join(map(str, diagnostics)))
    streamed = is_streamed(options)
    in_own_bands = streamed and written is not None and written.lays_bands
    memory = MemoryCheck(model, cost, assumed, board, budget, streamed, in_own_bands)
    verification = None
    if written is not None and memory.excess is None:
        verification = write(model, options, memory.activations(integer=written.calibrated))
    verdict = memory.verdict
    if options.json:
        data = as_data(model, cost, diagnostics, memory.scheduled)
        data |= {"device": asdict(verdict) | {"device": verdict.device.name}} if verdict else {}
        data |= {"verification": verification.as_data()} if verification else {}
        print(json.dumps(data, indent=2))
    else:
        out = console()
        show_summary(out, model, cost, memory.scheduled if options.stream else None)
        show_diagnostics(out, diagnostics)
        if memory.limit is not None:
            chosen = memory.streaming.chosen
            out.print(f"\nin {thousands(memory.limit)} bytes: {chosen}; arena {thousands(chosen.arena)}")
        if verdict is not None:
            out.print(str(verdict), markup=False)
        if verification is not None:
            show_report(out, ("", *verification.report()))
    unmet = memory.unmet()
    if written is not None and memory.excess:
        unmet.append(f"{visible(options.output)} isn't written")
    for sentence in unmet:
        print(f"sapoolc: {sentence}", file=sys.stderr)
    return 1 if unmet else 0


def _refuse_backbone(text: str) -> None:
    """Says how a backbone's name becomes an architecture."""
    from sapool.catalogue.backbones import BACKBONES

    entry = BACKBONES.get(text)
    if entry is not None:
        example = f"; unchanged it is {text}-skip-{entry.strides}" if entry.strides else ""
        raise InputError(f"{text} is a backbone, and no architecture yet{example}; sapoolc inspect {text} shows it")


def _detector(text: str) -> DetectionRecipe | None:
    """The detector's recipe that a text names, which is no architecture."""
    from sapool.recipes import names

    if text not in names() and not text.endswith(".toml"):
        return None
    from sapool.recipes.reading import DetectionRecipe, read_recipe

    recipe = read_recipe(text)
    if not isinstance(recipe, DetectionRecipe):
        raise InputError(f"{text} is a classifier's recipe; compile its architecture: {recipe.architecture}")
    return recipe


def _write_config(recipe: DetectionRecipe, options: argparse.Namespace) -> int:
    """Writes the config that a detector's recipe is compiled to, and shows what was bound in it."""
    if flags := given_flags(options):
        raise InputError(f"a recipe has its own settings; {flags} can't change them")
    if recipe.detector.engine != "mmdet":
        raise InputError(
            f"a config is of mmdet's detectors, and this one is {recipe.detector.engine}'s: train the recipe, or build "
            "the detector by sapool.torchvision_detector"
        )
    if not options.output:
        raise InputError(
            "a detector's recipe is compiled to a config of mmdet: name it with -o, for instance -o config.py"
        )
    check_config_name(options.output)
    check_writable(options.output)
    from sapool.cli.console import console, show_report
    from sapool.detect.dry_run import bind_recipe

    bound, out = bind_recipe(recipe), console()
    show_report(out, bound.report())
    bound.write(options.output)
    out.print(f"config in {visible(options.output)}", markup=False)
    return 0


def check_config_name(path: str) -> None:
    """Refuses a name that isn't a config's."""
    if Path(path).suffix != ".py":
        raise InputError(f"{path}: a detector's recipe is written as a config of mmdet; expected .py")
