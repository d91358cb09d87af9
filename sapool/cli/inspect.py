"""`sapoolc inspect`: what became of a network. The rewritten graph, what was done to it, and what was left alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sapool.cli.options import add_model_options, assumptions, compiled, given, given_flags
from sapool.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from sapool.model import CompiledModel

SUMMARY = "show the rewritten graph: sites, rewrites, nodes, code"
_FILES = (".pt", ".pth", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text", metavar="TEXT|FILE", help="an architecture, a backbone, a model (.pt) or a plan (.json)"
    )
    add_model_options(parser)
    parser.add_argument("--timeline", action="store_true", help="only what each operation holds in memory")
    parser.add_argument(
        "--rewrites", action="store_true", help="only what was rewritten and what was left alone, and why"
    )
    parser.add_argument("--nodes", action="store_true", help="only the graph's nodes")
    parser.add_argument("--code", action="store_true", help="only the generated code")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> int:
    if "-" not in options.text and Path(options.text).suffix not in _FILES:
        return _inspect_backbone(options)
    model = _open(options)
    from sapool.cli.tables import (
        as_data,
        console,
        show_diagnostics,
        show_nodes,
        show_rewrites,
        show_summary,
        show_timeline,
    )
    from sapool.cost.comparison import assess
    from sapool.cost.diagnostics import diagnose

    cost = assess(model, assumptions(options))
    diagnostics = diagnose(model, cost)
    if options.json:
        print(json.dumps(as_data(model, cost, diagnostics, graph=True), indent=2))
        return 0
    out = console()
    everything = not (options.rewrites or options.nodes or options.code or options.timeline)
    if everything:
        show_summary(out, model, cost)
        show_diagnostics(out, diagnostics)
        out.print()
    if everything or options.rewrites:
        show_rewrites(out, model)
    if options.timeline:
        show_timeline(out, cost.memory)
    if everything:
        out.print()
    if everything or options.nodes:
        show_nodes(out, model)
    if options.code:
        out.print(model.code.strip(), markup=False)
    return 0


def _inspect_backbone(options: argparse.Namespace) -> int:
    """A backbone's name alone: what was found in it, before anything is rewritten."""
    from sapool.catalogue.backbones import BACKBONES, TIMM

    if options.text not in BACKBONES and not options.text.startswith(TIMM):
        hint = did_you_mean(options.text, BACKBONES)
        raise InputError(f"there is no backbone '{options.text}' (sapoolc list backbones).{hint}")
    from dataclasses import asdict

    from sapool.cli.tables import console, show_survey
    from sapool.compiler import examine

    survey = examine(options.text)
    if options.json:
        print(json.dumps({"backbone": options.text, "unchanged": survey.unchanged, **asdict(survey)}, indent=2))
    else:
        show_survey(console(), options.text, survey)
    return 0


def _open(options: argparse.Namespace) -> CompiledModel:
    """The model that TEXT|FILE names."""
    suffix = Path(options.text).suffix
    if suffix not in _FILES:
        return compiled(options.text, options)
    if given(options):
        raise InputError(f"{options.text} has its own settings; {given_flags(options)} can't change them")
    text = _read_plan(options.text) if suffix == ".json" else None  # before torch is loaded
    from sapool.inference import optimize
    from sapool.model_file import load

    model = _from_plan(text, options.text) if text is not None else load(options.text)
    return optimize(model) if options.optimize else model


def _read_plan(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} isn't a plan: it isn't text") from None


def _from_plan(text: str, path: str) -> CompiledModel:
    import torch

    from sapool.compiler import compile
    from sapool.ir.plan import Plan

    plan = Plan.from_json(text, path)
    with torch.device("meta"):
        return compile(
            plan.architecture,
            num_classes=plan.num_classes,
            dialect=plan.dialect,
            image_size=plan.image_size,
            features_only=plan.features_only,
            out_indices=plan.out_indices,
        )
