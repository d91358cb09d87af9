"""Which operations of an unrolled graph work by rows, and why the others don't."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import networkx as nx
from torch import Tensor, fx

from sapool.analysis.dataflow import Dataflow
from sapool.cost.lifetimes import operation_name
from sapool.schedule.by_rows import pointwise, views, windows
from sapool.schedule.by_rows.rows import ByRows, NotByRows, Rows, Summing, operands, shape_of

Rule = Callable[[fx.Node, Mapping[fx.Node, Rows]], ByRows | Summing]


def _adaptive(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows | Summing:
    single = len(shape_of(node)) == 4 and tuple(shape_of(node)[2:]) == (1, 1)
    return pointwise.global_average(node, rows) if single else windows.adaptive_avg_pool(node, rows)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv2d": windows.convolution,
        "max_pool2d": windows.max_pool,
        "avg_pool2d": windows.avg_pool,
        "adaptive_avg_pool2d": _adaptive,
        "interpolate": windows.resampling,
        "pad": windows.padding,
        "pixel_shuffle": windows.pixel_shuffle,
        "pixel_unshuffle": windows.pixel_unshuffle,
        "batch_norm": pointwise.normalisation,
        "layer_norm": pointwise.layer_norm,
        "softmax": pointwise.softmax,
        "linear": pointwise.linear,
        "cat": pointwise.concatenation,
        "stack": pointwise.concatenation,
        "scaled_dot_product_attention": pointwise.attention,
        "grid_sample": pointwise.grid_sample,
        "mean": pointwise.reduction,
        "sum": pointwise.reduction,
        "view": views.reshape,
        "reshape": views.reshape,
        "flatten": views.reshape,
        "unflatten": views.reshape,
        "unsqueeze": views.reshape,
        "squeeze": views.reshape,
        "expand": views.expansion,
        "permute": views.permutation,
        "transpose": views.permutation,
        "t": views.permutation,
        "__getitem__": views.indexing,
        "_item": views.pieces,
    }
)
"""How operations work by rows, by their names; elementwise ones (`pointwise.is_aligned`) do as well."""


@dataclass
class Tracking:
    """What is known of an unrolled graph's values.

    Attributes:
        variable: nodes whose values follow from the input; the others are weights, or made of them.
        rows: where the rows of a variable tensor are, for those that have any.
        how: how a node works by rows, for those that do.
        reasons: why a node doesn't, for the others that compute something of a tensor with rows.
    """

    variable: set[fx.Node]
    rows: dict[fx.Node, Rows] = field(default_factory=dict)
    how: dict[fx.Node, ByRows | Summing] = field(default_factory=dict)
    reasons: dict[fx.Node, str] = field(default_factory=dict)


def track(graph: fx.GraphModule) -> Tracking:
    """Follows the rows of the input, (N, C, H, W), through a graph."""
    flow = Dataflow(graph.graph)
    inputs = graph.graph.find_nodes(op="placeholder")
    variable = {*inputs, *(node for source in inputs for node in nx.descendants(flow.edges, source))}
    known = Tracking(variable)
    for node in graph.graph.nodes:
        if node not in variable or not isinstance(node.meta.get("value"), Tensor):
            continue
        if node.op != "placeholder":
            _follow(node, known)
        if node not in known.how and len(shape_of(node)) == 4:
            known.rows[node] = Rows(2, shape_of(node)[2])
    return known


def _follow(node: fx.Node, known: Tracking) -> None:
    name = operation_name(node)
    rule = RULES.get(name) or (pointwise.aligned if pointwise.is_aligned(name) else None)
    if not any(source in known.rows for source in operands(node)):
        return
    if rule is None:
        known.reasons[node] = f"{name} isn't known to work by rows"
        return
    try:
        how = rule(node, known.rows)
    except NotByRows as reason:
        known.reasons[node] = f"{name} {reason}"
        return
    known.how[node] = how
    if isinstance(how, ByRows):
        known.rows[node] = how.rows
