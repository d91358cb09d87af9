"""What in an unrolled graph holds for one batch size and one dtype only, and what it is for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate

from sapool.analysis.shapes import on_meta
from sapool.cost.unroll import unroll
from sapool.errors import InputError
from sapool.schedule.heads.groups import Groups
from sapool.schedule.heads.split import split


@dataclass(frozen=True)
class PerImage:
    """A number that grows with the batch: so much for each image."""

    count: int


@dataclass(frozen=True)
class Dtype:
    """The dtype that the network computes in; with `exact`, float32 where that is a narrower one."""

    exact: bool


Template = tuple[Any, Any]
"""A node's args and kwargs with `PerImage` and `Dtype` in place of constants that aren't."""


def templates(
    module: fx.GraphModule, graph: fx.GraphModule, height: int, width: int, groups: tuple[Groups, ...] = ()
) -> dict[fx.Node, Template]:
    """The arguments of each node of `graph`, which is `module` unrolled for one image in float32.

    Heads of its attention are in these groups.

    They are compared with those of a second unrolling, for two images in half precision.

    Raises:
        InputError: something else than constants depends on the batch.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        other = unroll(on_meta(module).half(), height, width, batch=2)  # type: ignore[arg-type]
        other = split(other, groups) if groups else other
    finally:
        torch.set_default_dtype(before)
    nodes, twins = list(graph.graph.nodes), list(other.graph.nodes)
    if [(n.op, n.name) for n in nodes] != [(n.op, n.name) for n in twins]:
        raise InputError("the network can't be streamed: what it does depends on the number of images in a batch")
    return {
        node: (_merged(node.args, twin.args, node), _merged(node.kwargs, twin.kwargs, node))
        for node, twin in zip(nodes, twins, strict=True)
    }


def _merged(one: Any, two: Any, node: fx.Node) -> Any:
    """An argument, given what it is for one image and for two."""
    if isinstance(one, (list, tuple)):
        return type(one)(_merged(a, b, node) for a, b in zip(one, two, strict=True))
    if isinstance(one, Mapping):
        return {key: _merged(value, two[key], node) for key, value in one.items()}
    if isinstance(one, slice):
        return slice(*(_merged(getattr(one, k), getattr(two, k), node) for k in ("start", "stop", "step")))
    if isinstance(one, torch.dtype):
        floating = one.is_floating_point and one in (torch.float32, torch.float16)
        return Dtype(exact=one == two) if floating else one
    if isinstance(one, fx.Node) or one == two:
        return one
    if isinstance(one, int) and two == 2 * one:
        return PerImage(one)
    raise InputError(
        f"the network can't be streamed: {node.name} depends on the batch in a way of its own ({one}, {two})"
    )


def filled(template: Any, value: Callable[[fx.Node], Any], batch: Callable[[], Any], dtype: torch.dtype) -> Any:
    """An argument, with values in place of nodes and the constants of this batch and dtype."""

    def fill(leaf: Any) -> Any:
        if isinstance(leaf, fx.Node):
            return value(leaf)
        if isinstance(leaf, PerImage):
            return leaf.count * batch()
        if isinstance(leaf, Dtype):
            return torch.promote_types(dtype, torch.float32) if leaf.exact else dtype
        return leaf

    return map_aggregate(template, fill)
