"""Taking a snapshot of a graph that is being rewritten."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from sapool.analysis.dataflow import operation
from sapool.analysis.parts import parts_of
from sapool.analysis.shapes import ShapeError, propagate
from sapool.inspection.graph import Node, Snapshot
from sapool.ir.plan import Plan

_LONGEST = 300
"""Characters of a module's arguments that are kept."""


def snapshot(title: str, module: fx.GraphModule, plan: Plan) -> Snapshot:
    """A graph as it is now; the module may be rewritten afterwards."""
    parts, values = parts_of(module, plan), _values(module, plan)
    nodes = tuple(_node(module, node, parts[node.name], values.get(node.name)) for node in module.graph.nodes)
    edges = tuple((source.name, node.name) for node in module.graph.nodes for source in node.all_input_nodes)
    return Snapshot(title, nodes, edges)


def _node(module: fx.GraphModule, node: fx.Node, part: str, value: Any) -> Node:
    target = str(node.target) if node.op in ("call_module", "get_attr") else ""
    detail = module.get_submodule(target).extra_repr() if node.op == "call_module" else ""
    site = node.meta.get("site", "")
    return Node(
        name=node.name,
        op=operation(module, node),
        target=target,
        detail=detail if len(detail) <= _LONGEST else f"{detail[:_LONGEST]}…",
        stage=_stage(part),
        rule=node.meta.get("rule", ""),
        site=site,
        shape=tuple(int(side) for side in value.shape) if isinstance(value, Tensor) else (),
    )


def _stage(part: str) -> str:
    """A prepool stands on the stem's map; every other pool has its stage's name."""
    name = part.removeprefix("pools.")
    return "stem" if name == "prepool" else name


def _values(module: fx.GraphModule, plan: Plan) -> dict[str, Any]:
    """What each node returns; nothing for a graph that doesn't fit together between two passes."""
    try:
        return propagate(module, plan.options.image_size)[0]
    except ShapeError:
        return {}
