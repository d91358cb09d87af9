"""What people read: tables of plans, costs, rewrites and nodes. Rich on a terminal, plain aligned lines elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as Grid
from torch import fx

from sapool.analysis.dataflow import operation
from sapool.catalogue.backbones import PLACES
from sapool.cost.comparison import Comparison
from sapool.diagnostics import Diagnostic
from sapool.ir.plan import COLUMNS, table
from sapool.ir.survey import Strides, Survey
from sapool.model import CompiledModel
from sapool.planning import edits
from sapool.runs.results import Table
from sapool.schedule.streaming import Streaming


class _Output(Console):
    """A console that leaves a closed pipe to the command line, which ends quietly."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Standard output (or error): coloured on a terminal, plain and never wrapped where a program reads."""
    # The stream of this moment: an engine that works meanwhile may put another in its place.
    file = sys.stderr if stderr else sys.stdout
    out = _Output(file=file, highlight=False, emoji=False)
    return out if out.is_terminal else _Output(file=file, highlight=False, emoji=False, width=_ENDLESS, no_color=True)


_ENDLESS = 100_000


def show_table(out: Console, columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Prints a table; numbers are aligned to the right."""
    plain = not out.is_terminal
    rows = [[str(cell) for cell in row] for row in rows]
    grid = Grid(box=None if plain else SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        numeric = any(row[index] for row in rows) and all(_numeric(row[index]) for row in rows)
        grid.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        grid.add_row(*(escape(cell) for cell in row))
    if title:
        out.print(title, style=None if plain else "bold")
    # At its natural width: a terminal that is too narrow breaks lines more readably than a table breaks words.
    fitted, natural = out.width, Measurement.get(out, out.options.update(width=_ENDLESS), grid).maximum
    out.width = max(fitted, natural)
    out.print(grid, crop=False)
    out.width = fitted


def show_report(out: Console, report: Iterable[Table | str]) -> None:
    """Prints tables and paragraphs with a blank line between them."""
    for number, block in enumerate(report):
        if number:
            out.print()
        if isinstance(block, Table):
            show_table(out, block.columns, block.rows, title=block.title)
        else:
            out.print(block, markup=False)


def _numeric(cell: str) -> bool:
    return not cell or cell[0].isdigit()


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
    show_table(out, COLUMNS, table(plan), title="plan")
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


def show_survey(out: Console, name: str, survey: Survey) -> None:
    """What a backbone offers to a plan, before anything is rewritten."""
    reduction = survey.stem_stride
    rows = [("stem", f"{survey.stem.channels}", f"{reduction}", f"{reduction}", _words(survey.strides), "")]
    for stage in survey.stages:
        reduction *= stage.stride
        modules = f"{stage.modules[0]} ... {stage.modules[-1]}" if len(stage.modules) > 1 else stage.modules[0]
        own = _words(stage.strides)
        rows.append((stage.name, f"{stage.last.channels}", f"{stage.stride}", f"{reduction}", own, modules))
    out.print(f"{name}: nothing is rewritten\n", markup=False)
    show_table(out, ("place", "channels", "stride", "reduction", "downsampled by", "modules"), rows)
    out.print(f"\npools go {PLACES[survey.pools]} of a stage; with _v2 {PLACES['first']}", markup=False)
    out.print(f"unchanged: {name}-skip-{survey.unchanged}", markup=False)


def _words(strides: Strides) -> str:
    return ", ".join((*strides.first, *strides.later, *strides.fixed))


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
    show_table(out, ("node", "operation", "target", "arguments", "rule", "site"), rows, title=title)


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


def ratio(value: float, base: float) -> str:
    """A value in units of another, `1.21x`."""
    return f"{value / base:.2f}x"
