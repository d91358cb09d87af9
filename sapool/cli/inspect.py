"""`sapoolc inspect`: what became of a network. The rewritten graph, what was done to it, and what was left alone."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from sapool.cli.modules import add_module_options, own_network
from sapool.cli.options import add_model_options, add_pass_option, assumptions, is_model_file, opened
from sapool.errors import InputError, did_you_mean, require_extra, visible
from sapool.ir.plan_file import is_plan_file
from sapool.report.suffixes import check_suffix

if TYPE_CHECKING:
    from torch import fx

SUMMARY = "show the rewritten graph: sites, rewrites, nodes, code"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        metavar="TEXT|FILE",
        nargs="?",
        default="",
        help="an architecture, a backbone, a model (.pt) or a plan (.json); with --module nothing, for what is found",
    )
    add_model_options(parser)
    add_module_options(parser)
    add_pass_option(parser)
    parser.add_argument("--timeline", action="store_true", help="only what each operation holds in memory")
    parser.add_argument(
        "--rewrites", action="store_true", help="only what was rewritten and what was left alone, and why"
    )
    parser.add_argument("--nodes", action="store_true", help="only the graph's nodes")
    parser.add_argument("--code", action="store_true", help="only the generated code")
    parser.add_argument("--after", metavar="PASS", help="only the graph's nodes as they are after a pass")
    parser.add_argument(
        "--print-changed", action="store_true", help="only the graph's nodes after each pass that changed something"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the graph, before and after, in place of printing: .html, .svg or NAME.model-explorer.json",
    )


def run(options: argparse.Namespace) -> int:
    _refuse_recipe(options.text)
    if options.output:
        check_suffix(options.output)
        return _write(options)
    if "-" not in options.text and not is_model_file(options.text) and not is_plan_file(options.text):
        return _inspect_backbone(options)
    if options.after or options.print_changed:
        return _show_passes(options)
    assumed = assumptions(options)
    model = opened(options)
    from sapool.cli.console import console
    from sapool.cli.memory import show_schedule, show_timeline
    from sapool.cli.tables import as_data, show_diagnostics, show_nodes, show_rewrites, show_summary
    from sapool.cost.comparison import compare
    from sapool.diagnostics import diagnose
    from sapool.schedule.streaming import Streaming

    cost = compare(model, assumed)
    diagnostics = diagnose(model, cost)
    streaming = Streaming(cost) if options.stream else None
    if options.json:
        print(json.dumps(as_data(model, cost, diagnostics, streaming, graph=True), indent=2))
        return 0
    out = console()
    everything = not (options.rewrites or options.nodes or options.code or options.timeline)
    if everything:
        show_summary(out, model, cost, streaming)
        show_diagnostics(out, diagnostics)
        out.print()
    if everything or options.rewrites:
        show_rewrites(out, model)
    if options.timeline and streaming is not None:
        show_schedule(out, streaming.chosen)
    elif options.timeline:
        show_timeline(out, cost.memory)
    if everything:
        out.print()
    if everything or options.nodes:
        show_nodes(out, model)
    if options.code:
        out.print(model.code.strip(), markup=False)
    return 0


def _write(options: argparse.Namespace) -> int:
    """Writes the graph as a file."""
    from sapool.weights.atomic import check_writable

    if not options.output.endswith("model-explorer.json"):
        require_extra("report", f"writing {options.output}", ("jinja2",))
    check_writable(options.output)
    model = opened(options)
    from sapool.cli.console import console
    from sapool.report.graphs import write_graph

    files = " and ".join(visible(str(file)) for file in write_graph(model, options.output))
    console().print(f"graph in {files}", markup=False)
    return 0


def _refuse_recipe(text: str) -> None:
    """Says which network to inspect where a recipe is named."""
    from sapool.recipes import names

    if text not in names() and not text.endswith(".toml"):
        return
    from sapool.recipes.reading import DetectionRecipe, read_recipe

    recipe = read_recipe(text)
    detector = isinstance(recipe, DetectionRecipe)
    what = "a detector's recipe" if detector else "a classifier's recipe"
    also = f"; sapoolc compile {text} -o config.py shows what the detector sees of it" if detector else ""
    raise InputError(f"{text} is {what}; inspect its architecture: {recipe.architecture}{also}")


def _inspect_backbone(options: argparse.Namespace) -> int:
    """A backbone's name alone: what was found in it, before anything is rewritten."""
    from sapool.catalogue.backbones import BACKBONES, TIMM

    if not options.text and options.module is None:
        raise InputError("what is to be inspected? An architecture, a backbone, a model (.pt) or a plan (.json)")
    if options.module is None and options.text not in BACKBONES and not options.text.startswith(TIMM):
        hint = did_you_mean(options.text, BACKBONES)
        raise InputError(f"there is no backbone '{options.text}' (sapoolc list backbones).{hint}")
    from dataclasses import asdict

    from sapool.cli.console import console
    from sapool.cli.tables import show_survey
    from sapool.planning import survey as measure

    own = own_network(options)
    name = options.module or options.text
    survey = measure(own.pop("backbone", options.text), **own)
    if options.json:
        print(json.dumps({"backbone": name, "unchanged": survey.unchanged, **asdict(survey)}, indent=2))
    else:
        show_survey(console(), name, survey, own=options.module is not None)
    return 0


def _show_passes(options: argparse.Namespace) -> int:
    """The graph as it is between passes."""
    from sapool.catalogue.passes import check_passes

    if options.after:
        check_passes([options.after])
    from sapool.cli.console import console
    from sapool.cli.tables import nodes, show_nodes

    out, shown = console(), []

    def watch(name: str, module: fx.GraphModule, changed: bool) -> None:
        wanted = name == options.after or (options.print_changed and changed)
        if not wanted:
            return
        shown.append({"pass": name, "nodes": nodes(module)})
        if not options.json:
            show_nodes(out, module, title=f"after {name}")
            out.print()

    opened(options, watch=watch)
    if options.after and not any(entry["pass"] == options.after for entry in shown):
        raise InputError(f"the pass {options.after} doesn't run for {options.text}")
    if options.json:
        print(json.dumps(shown, indent=2))
    return 0
