"""Measuring a rewritten graph: its feature maps, and what reaches each site."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor, fx

from sapool.analysis.shapes import ShapeError, propagate
from sapool.errors import InputError
from sapool.ir.plan import Plan

# Pixels that no tensor can have; strides that need more leave a single pixel of any real image.
_FARTHEST = 10**6
_LARGEST_IMAGE = 8192

Size = tuple[int, int]


@dataclass(frozen=True)
class Feature:
    """One output that detectors can use, as measured.

    Attributes:
        name: `stage1`, ..., or `head`.
        channels: C of the map.
        reduction: image side over map side.
        node: its node in the graph.
    """

    name: str
    channels: int
    reduction: int
    node: str


@dataclass(frozen=True)
class Measurement:
    """What a graph does with an image of the plan's size.

    Attributes:
        features: every feature of the model.
        maps: each site's input size in pixels (height, width).
        values: of each node, by name, on the meta device.
        larger: the same for an image larger by all strides together; `values` itself where none is so large.
    """

    features: tuple[Feature, ...]
    maps: dict[str, Size]
    values: dict[str, Any] = field(repr=False)
    larger: dict[str, Any] = field(repr=False)


def measure(module: fx.GraphModule, plan: Plan) -> Measurement:
    """Measures a rewritten graph.

    Raises:
        InputError: images of the plan's size are too small for the network.
    """
    values, larger = _propagated(module, plan)
    nodes = {node.name: node for node in module.graph.nodes}
    maps: dict[str, Size] = {}
    for site in plan.sites:
        strided = [name for name, _ in site.restride.strides] if site.restride else []
        node = next((nodes[name] for name in (site.node, *strided) if name in nodes), None)
        if node is not None:  # else no wanted feature map needs it
            _, _, height, width = values[node.all_input_nodes[0].name].shape
            maps[site.name] = (int(height), int(width))
    return Measurement(_features(plan, nodes, values), maps, values, larger)


def reductions_of(plan: Plan) -> dict[str, int]:
    """The planned reduction of each feature, the product of the strides on its way."""
    reduction, found = 1, {}
    for site in plan.sites:
        reduction *= site.stride
        found[site.name] = reduction
    return {**found, "head": reduction}


def _features(plan: Plan, nodes: dict[str, fx.Node], values: dict[str, Any]) -> tuple[Feature, ...]:
    reductions = reductions_of(plan)
    marked = [(node.meta["feature"], node) for node in nodes.values() if "feature" in node.meta]
    return tuple(
        Feature(name, int(values[node.name].shape[1]), reductions[name], node.name)
        for name, node in marked
        if isinstance(values[node.name], Tensor)
    )


def _propagated(module: fx.GraphModule, plan: Plan) -> list[dict[str, Any]]:
    """What every node returns for an image of the plan's size, and for one that is larger by all strides together."""
    (height, width), step = plan.options.image_size, prod(site.stride for site in plan.sites)
    try:
        if step > _FARTHEST:
            return propagate(module, (height, width)) * 2
        return propagate(module, (height, width), (height + step, width + step))
    except ShapeError as error:
        raise _too_small(module, plan, error) from None


def _too_small(module: fx.GraphModule, plan: Plan, error: ShapeError) -> InputError:
    shape = "x".join(map(str, error.shape[2:])) if error.shape else "its"
    smallest = _smallest(module, plan.options.image_size)
    if smallest is None:
        return InputError(
            f"{plan.architecture} doesn't fit together: {error.node} can't take a map of {shape} pixels "
            f"({error.reason}), and no image size up to {_LARGEST_IMAGE // 2} changes that; choose other strides, or a "
            "pooling in place of skip"
        )
    return InputError(
        f"images of {plan.options.size_text} are too small for {plan.architecture}: {error.node} can't take a map of "
        f"{shape} pixels; the smallest that works is {smallest} (image_size)"
    )


def _smallest(module: fx.GraphModule, failing: Size) -> str | None:
    """The smallest image of about that shape that works, as a side or as height x width."""
    height, width = failing
    low, high = 1.0, 2.0

    def scaled(factor: float) -> Size:
        return round(height * factor), round(width * factor)

    while not _works(module, scaled(high)):
        low, high = high, high * 2
        if max(scaled(high)) > _LARGEST_IMAGE:
            return None
    while scaled(low) != scaled(high) and max(scaled(high)) - max(scaled(low)) > 1:
        middle = (low + high) / 2
        low, high = (low, middle) if _works(module, scaled(middle)) else (middle, high)
    sides = scaled(high)
    return str(sides[0]) if height == width else "x".join(map(str, sides))


def _works(module: fx.GraphModule, size: Size) -> bool:
    try:
        propagate(module, size)
    except ShapeError:
        return False
    return True
