"""What people read: tables of plans, costs, rewrites and nodes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text
from torch import fx

from sapool.analysis.dataflow import operation
from sapool.catalogue.backbones import PLACES
from sapool.cli.console import show_table
from sapool.cost.comparison import Comparison
from sapool.diagnostics import Diagnostic
from sapool.ir.plan import COLUMNS, Plan, table
from sapool.ir.survey import Survey
from sapool.model import CompiledModel
from sapool.planning import edits
from sapool.schedule.streaming import Streaming


def show_summary(out: Console, model: CompiledModel, cost: Comparison, streaming: Streaming | None = None) -> None:
    """The plan and the cost, as `sapoolc compile` prints them; with `streaming` what scheduling makes of it."""
    plan, whole, baseline = model.plan, cost.total, cost.baseline
    memory, baseline_memory = cost.memory, cost.baseline_memory
    size = plan.options.size_text
    tuned = ", optimized" if model.origin.optimized else ""
    out.print(f"{plan.architecture}  ({plan.backbone}, {plan.options.dialect} dialect, {size}{tuned})\n", markup=False)
    changes = edits(plan)
    for edit in changes:
        out.print(f"edited: {edit}", markup=False)
    if changes:
        out.print()
    show_plan(out, plan)
    out.print()
    rows = [(part.part, thousands(part.parameters), thousands(part.macs)) for part in cost.parts]
    show_table(out, ("part", "parameters", "MACs"), rows, title="cost of the parts, for one image")
    out.print()
    figures = [
        ("parameters", whole.parameters, baseline.parameters),
        ("MACs", whole.macs, baseline.macs),
        ("FLOPs (2 per MAC)", 2 * whole.macs, 2 * baseline.macs),
        ("peak activations, bytes", memory.peak, baseline_memory.peak),
        ("arena, bytes", memory.arena, baseline_memory.arena),
        ("arena's lower bound", memory.bound, baseline_memory.bound),
    ]
    if streaming is not None:
        ours, theirs = streaming.lowest, streaming.baseline
        figures += [
            ("peak, streamed", ours.peak, theirs.peak),
            ("arena, streamed", ours.arena, theirs.arena),
            ("its lower bound", ours.bound, theirs.bound),
            ("streamed against plain", ours.arena, baseline_memory.arena),
        ]
    compared = [(name, thousands(ours), thousands(theirs), ratio(ours, theirs)) for name, ours, theirs in figures]
    show_table(
        out, ("total", "this network", plan.backbone, "ratio"), compared, title="against the unmodified backbone"
    )
    worst = memory.worst
    out.print(f"\nactivations: {memory.assumptions}; peak in {worst.part} ({worst.operation})", markup=False)
    if streaming is not None:
        lowest = streaming.lowest
        proof = "no order does with less" if lowest.proved else "the best order found in the time there was"
        by_order = f"by order alone the peak is {thousands(lowest.order_peak)} ({proof})"
        out.print(f"streamed: {lowest}; {by_order}", markup=False)
    if model.transfer is not None:
        out.print(f"weights: {model.transfer}", markup=False)


def show_plan(out: Console, plan: Plan) -> None:
    """The plan's sites; those that are rewritten stand out."""
    rows = [
        [Text(cell, _REWRITTEN[site.action]) for cell in row] for site, row in zip(plan.sites, table(plan), strict=True)
    ]
    show_table(out, COLUMNS, rows, title="plan", spare=("embedding", "window", "patch", "heads"))


# How a terminal shows what is done at a site.
_REWRITTEN = {"pool": "cyan", "stride": "yellow", "keep": ""}


def show_survey(out: Console, name: str, survey: Survey, *, own: bool = False) -> None:
    """What a backbone, or a network of the user's own, offers to a plan, before anything is rewritten."""
    reduction = survey.stem_stride
    rows: list[tuple[str, ...]] = [
        ("stem", f"{survey.stem.channels}", f"{reduction}", f"{reduction}", str(survey.strides), "")
    ]
    for stage in survey.stages:
        reduction *= stage.stride
        modules = f"{stage.modules[0]} ... {stage.modules[-1]}" if len(stage.modules) > 1 else stage.modules[0]
        numbers = (stage.last.channels, stage.stride, reduction)
        rows.append((stage.name, *map(str, numbers), str(stage.strides), modules))
    out.print(f"{name}: nothing is rewritten\n", markup=False)
    show_table(out, ("place", "channels", "stride", "reduction", "downsampled by", "modules"), rows)
    out.print(f"\npools go {PLACES[survey.pools]} of a stage; with _v2 {PLACES['first']}", markup=False)
    out.print(f"unchanged: {'' if own else f'{name}-'}skip-{survey.unchanged}", markup=False)


def show_diagnostics(out: Console, diagnostics: Iterable[Diagnostic]) -> None:
    """The diagnostics, a paragraph each."""
    for diagnostic in diagnostics:
        out.print()
        out.print(f"note: {diagnostic}", markup=False)


def show_rewrites(out: Console, model: CompiledModel) -> None:
    """Each rewrite, and each place that was left alone with its reason."""
    rows = [(r.rule, r.site, r.target, r.before, r.after) for r in model.rewrites]
    show_table(out, ("rule", "site", "target", "before", "after"), rows, title="rewrites")
    out.print()
    left = [(r.rule, r.site, r.target, r.reason) for r in model.refusals]
    show_table(out, ("rule", "site", "target", "reason"), left, title="left alone")


def show_nodes(out: Console, graph: fx.GraphModule, *, title: str = "nodes") -> None:
    """The graph's nodes in order."""
    rows = [tuple(node.values()) for node in nodes(graph)]
    columns = ("node", "operation", "target", "arguments", "rule", "site")
    show_table(out, columns, rows, title=title, spare=("site", "rule"))


def nodes(graph: fx.GraphModule) -> list[dict[str, str]]:
    """The graph's nodes in order, as plain data."""
    return [
        {
            "node": node.name,
            "operation": operation(graph, node),
            "target": str(node.target) if node.op == "call_module" else "",
            "arguments": ", ".join(str(argument) for argument in node.args),
            "rule": node.meta.get("rule", ""),
            "site": node.meta.get("site", ""),
        }
        for node in graph.graph.nodes
    ]


def as_data(
    model: CompiledModel,
    cost: Comparison,
    diagnostics: Iterable[Diagnostic],
    streaming: Streaming | None = None,
    *,
    graph: bool = False,
) -> dict[str, Any]:
    """What `--json` prints: plan, cost and diagnostics, and with `graph` the timeline, rewrites and nodes too."""
    memory, baseline = cost.memory, cost.baseline_memory
    data: dict[str, Any] = {
        "architecture": model.plan.architecture,
        "plan": json.loads(model.plan.to_json()),
        "cost": {
            "parts": [asdict(part) for part in cost.parts],
            "total": asdict(cost.total),
            "unmodified": asdict(cost.baseline),
        },
        "memory": {
            "assumptions": asdict(memory.assumptions),
            "peak": memory.peak,
            "arena": memory.arena,
            "arena_bound": memory.bound,
            "worst": asdict(memory.worst),
            "unmodified": {"peak": baseline.peak, "arena": baseline.arena},
        },
        "diagnostics": [asdict(diagnostic) for diagnostic in diagnostics],
        "features": [asdict(feature) for feature in model.feature_info],
    }
    if streaming is not None:
        data["streaming"] = streaming.as_data()
    if model.transfer is not None:
        data["transfer"] = asdict(model.transfer)
    if graph:
        data |= {
            "timeline": [asdict(step) for step in (memory.steps if streaming is None else streaming.chosen.timeline)],
            "rewrites": [asdict(record) for record in model.rewrites],
            "refusals": [asdict(record) for record in model.refusals],
            "passes": [asdict(run) for run in model.origin.passes],
            "nodes": nodes(model),
            "code": model.code.strip(),
        }
    return data


def thousands(number: int) -> str:
    """1234567 as `1,234,567`."""
    return f"{number:,}"


def ratio(value: float, base: float) -> Text:
    """A value in units of another, `1.21x`; green where it is less on a terminal, red where it is more."""
    shown = f"{value / base:.2f}"
    return Text(f"{shown}x", "" if shown == "1.00" else "green" if value < base else "red")
