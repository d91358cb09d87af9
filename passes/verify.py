"""Verification: the rewritten graph is held to its plan, and measured on the way."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx, nn

from sapool.analysis.shapes import ShapeError, propagate
from sapool.analysis.strided import strided
from sapool.errors import InputError
from sapool.ir.plan import Plan

# An image whose number of pixels no tensor can have; strides that need it leave a single pixel of any real one.
_FARTHEST = 10**6


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
    """What verification saw: every feature of the model, and each site's input size in pixels (height, width)."""

    features: tuple[Feature, ...]
    maps: dict[str, tuple[int, int]]


def verify(module: fx.GraphModule, plan: Plan) -> Measurement:
    """Checks that the graph is sound and that every site and output is as planned.

    Raises:
        InputError: images of the plan's size are too small for the network.
        AssertionError: the graph isn't what the plan says, which is a fault of a pass.
    """
    module.graph.lint()
    called = {str(node.target) for node in module.graph.nodes if node.op in ("call_module", "get_attr")}
    for path, _ in module.named_parameters():
        assert any(path == target or path.startswith(target + ".") for target in called), f"{path} is never used"
    values, larger = _measure(module, plan)
    nodes = {node.name: node for node in module.graph.nodes}
    maps: dict[str, tuple[int, int]] = {}
    for site in plan.sites:
        kept = {nodes[name]: stride for name, stride in site.strides if name in nodes}
        for node, stride in kept.items():
            own = strided(module, node)
            assert own is not None
            assert own.stride == stride, f"{node.name} has stride {own.stride}, not {stride}"
        assert not any(name in nodes for name in site.removes), f"{site.removes} should have gone"
        pool = nodes.get(site.module.replace(".", "_"))
        node = pool or next(iter(kept), None)
        if node is None:
            # Only what no wanted feature map needs may have gone.
            assert site.action != "pool" or plan.features_only, f"the pool of {site.name} isn't in the graph"
            continue
        size = values[node.all_input_nodes[0].name].shape
        maps[site.name] = (int(size[2]), int(size[3]))
        if pool is not None:
            pooled = values[pool.name].shape
            assert size[1] == pooled[1] == site.channels, f"{site.name} pools {size[1]} channels, not {site.channels}"
            assert tuple(pooled[2:]) == (size[2] // site.stride, size[3] // site.stride), (
                f"{site.name} isn't as planned"
            )
    features = _features(plan, nodes, values, larger)
    returned = values[module.graph.output_node().name]
    if plan.features_only:
        wanted = plan.out_indices if plan.out_indices is not None else tuple(range(len(plan.features)))
        assert [plan.features[i][0] for i in wanted] == [
            next(f.name for f in features if values[f.node] is value) for value in returned
        ], "the outputs aren't the planned features"
    else:
        assert tuple(returned.shape) == (1, plan.num_classes), f"the output is {tuple(returned.shape)}"
    return Measurement(features, maps)


def _features(
    plan: Plan, nodes: dict[str, fx.Node], values: dict[str, Any], larger: dict[str, Any]
) -> tuple[Feature, ...]:
    """Each feature with the product of the strides on its way.

    That is the slope of its side against the image's, whatever is rounded at borders: an image that is larger by a
    multiple of all strides must have a map that is larger by just as many of its pixels.
    """
    reduction, reductions = 1, {}
    for site in plan.sites:
        reduction *= site.stride
        reductions[site.name] = reduction
    reductions["head"] = reduction
    features = []
    for node in nodes.values():
        if name := node.meta.get("feature"):
            shape, grown = values[node.name].shape, larger[node.name].shape[2] - values[node.name].shape[2]
            expected = reduction // reductions[name]
            assert grown == expected or larger is values, (
                f"{name} grows by {grown} pixels where {expected} are expected"
            )
            features.append(Feature(name, int(shape[1]), reductions[name], node.name))
    return tuple(features)


def _measure(module: fx.GraphModule, plan: Plan) -> list[dict[str, Any]]:
    """What every node returns for an image of the plan's size, and for one that is larger by all strides together."""
    size, step = plan.image_size, prod(site.stride for site in plan.sites)
    try:
        if step > _FARTHEST:
            return propagate(module, size) * 2
        return propagate(module, size, size + step)
    except ShapeError as error:
        smallest = _smallest(module, size)
        shape = "x".join(map(str, error.shape[2:])) if error.shape else "its"
        if smallest is None:
            raise InputError(
                f"{plan.architecture} doesn't fit together: {error.node} can't take a map of {shape} pixels "
                f"({error.reason}), and no image size up to 4096 changes that; choose other strides, or a pooling in "
                "place of skip"
            ) from None
        raise InputError(
            f"images of {size}x{size} are too small for {plan.architecture}: {error.node} can't take a map of {shape} "
            f"pixels; the smallest that works is {smallest} (image_size)"
        ) from None


def _smallest(module: fx.GraphModule, failing: int) -> int | None:
    """The smallest image size above a failing one that works."""
    low, high = failing, failing * 2
    while not _works(module, high):
        low, high = high, high * 2
        if high > 8192:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _works(module, middle) else (middle, high)
    return high


def _works(module: nn.Module, size: int) -> bool:
    try:
        propagate(module, size)  # type: ignore[arg-type]
    except ShapeError:
        return False
    return True
