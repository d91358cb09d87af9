"""Where a graph's resolution drops, as measured: no rule of arithmetic for any operation is assumed.

A map's reduction is the slope of its side against the image's: two images are propagated whose sides differ by a
multiple of every factor up to 10, and rounding at borders cancels in the difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import factorial
from typing import Any

from torch import Tensor, fx

from sapool.analysis.dataflow import module_path
from sapool.analysis.shapes import ShapeError, propagate
from sapool.analysis.strided import Strided, strided
from sapool.errors import InputError

_SIDE, _STEP = 256, factorial(8)


@dataclass(frozen=True)
class Drop:
    """An operation that lowers the resolution.

    Attributes:
        node: the operation.
        before, after: reductions of what it reads and what it returns.
        strided: how its stride can be changed, or None.
    """

    node: fx.Node
    before: int
    after: int
    strided: Strided | None


@dataclass(frozen=True)
class Resolution:
    """The maps of a graph.

    Attributes:
        reduction: of each node whose value is a map, (N, C, H, W) or (N, H, W, C), image side over map side.
        channels: of each map.
        channels_last: the maps that are laid out (N, H, W, C).
        drops: the operations that lower the resolution for good, in order of execution. What a later operation
            undoes, as in a side branch that is upsampled again, isn't one.
    """

    reduction: Mapping[fx.Node, int]
    channels: Mapping[fx.Node, int]
    channels_last: frozenset[fx.Node]
    drops: tuple[Drop, ...]


def measure(module: fx.GraphModule, name: str) -> Resolution:
    """Measures a traced backbone; `name` is for messages.

    Raises:
        InputError: it takes images of one size only; names the module that insists.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    try:
        small, large = propagate(module, _SIDE, _SIDE + _STEP)
    except ShapeError as error:
        path = module_path(nodes[error.node]) or error.node
        raise InputError(
            f"{name} can't be rewritten: {path} doesn't take the maps of images of any size "
            f"({_without_proxies(error.reason)}); it hard-codes a resolution. Choose a backbone, or a setting of this "
            "one, that is fully convolutional"
        ) from None
    if (fixed := _hard_coded(module, small, large)) is not None:
        raise InputError(
            f"{name} can't be rewritten: {fixed} mixes up the images of a batch where they aren't of one size; it "
            "hard-codes a resolution. Pool its maps before they are flattened"
        )
    reduction: dict[fx.Node, int] = {}
    channels: dict[fx.Node, int] = {}
    channels_last: set[fx.Node] = set()
    for node in module.graph.nodes:
        found = _map(small[node.name], large[node.name])
        if found is not None:
            reduction[node], channels[node], last = found
            if last:
                channels_last.add(node)
    return Resolution(reduction, channels, frozenset(channels_last), tuple(_drops(module, reduction)))


def _hard_coded(module: fx.GraphModule, small: dict[str, Any], large: dict[str, Any]) -> str | None:
    """The first operation that makes rows of a larger image, where the network's result has more of them for one."""
    returned = module.graph.output_node().name
    if not isinstance(small[returned], Tensor) or small[returned].dim() != 2 or _rows(small, large, returned):
        return None
    flat = [node for node in module.graph.nodes if isinstance(small[node.name], Tensor) and small[node.name].dim() == 2]
    return next(module_path(node) or node.name for node in flat if not _rows(small, large, node.name))


def _rows(small: dict[str, Any], large: dict[str, Any], name: str) -> bool:
    """Whether a value has as many rows for a large image as for a small one."""
    return bool(small[name].shape[0] == large[name].shape[0])


def _without_proxies(reason: str) -> str:
    """An assertion's words, which were put together while tracing, without the values that weren't known then."""
    return re.sub(r" ?\(?Proxy\(\w*\)\)?", "", reason).rstrip(".")


def _map(small: Any, large: Any) -> tuple[int, int, bool] | None:
    """Reduction and channels of a value that is a map, and whether it is laid out (N, H, W, C)."""
    if not isinstance(small, Tensor) or not isinstance(large, Tensor) or small.dim() != 4 or large.dim() != 4:
        return None
    _, *rows = (b - a for a, b in zip(small.shape, large.shape, strict=True))
    for axes, depth in (((1, 2), 1), ((0, 1), 3)):
        grown = rows[axes[0]]
        if grown == rows[axes[1]] and 0 < grown <= _STEP and rows[depth - 1] == 0:
            return round(_STEP / grown), int(small.shape[depth]), depth == 3
    return None


def _drops(module: fx.GraphModule, reduction: Mapping[fx.Node, int]) -> list[Drop]:
    # The finest map that each value still leads to.
    finest: dict[fx.Node, int] = {}
    for node in reversed(module.graph.nodes):
        reached = [finest[user] for user in node.users if user in finest]
        own = [reduction[node]] if node in reduction else []
        if own or reached:
            finest[node] = min(own + reached)
    found = []
    for node in module.graph.nodes:
        sources = [reduction[source] for source in node.all_input_nodes if source in reduction]
        if node in reduction and sources and max(sources) < reduction[node] <= finest[node]:
            found.append(Drop(node, max(sources), reduction[node], strided(module, node)))
    return found
