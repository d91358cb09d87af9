"""Verification: the rewritten graph is held to its plan, and measured on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from sapool.errors import InputError
from sapool.plan import Plan, Site
from sapool.shapes import ShapeError, propagate


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
    values = _measure(module, plan)
    nodes = {node.name: node for node in module.graph.nodes}
    maps: dict[str, tuple[int, int]] = {}
    for site in plan.sites:
        node = nodes.get(site.module.replace(".", "_")) or nodes.get(_first_conv(plan, site))
        if node is None:
            # Only what no wanted feature map needs may have gone.
            assert site.action != "pool" or plan.features_only, f"the pool of {site.name} isn't in the graph"
            continue
        size = values[node.args[0].name].shape
        maps[site.name] = (int(size[2]), int(size[3]))
        for path in site.convs:
            conv: Any = module.get_submodule(path) if path in called else None
            assert conv is None or conv.stride == (site.conv_stride, site.conv_stride), (
                f"{path} has stride {conv.stride}"
            )
        if site.action == "pool":
            pooled = values[node.name].shape
            assert size[1] == pooled[1] == site.channels, f"{site.name} pools {size[1]} channels, not {site.channels}"
            assert tuple(pooled[2:]) == (size[2] // site.stride, size[3] // site.stride), (
                f"{site.name} isn't as planned"
            )
    features = _features(plan, nodes, values)
    returned = values[module.graph.output_node().name]
    if plan.features_only:
        wanted = plan.out_indices if plan.out_indices is not None else tuple(range(len(plan.features)))
        assert [plan.features[i][0] for i in wanted] == [
            next(f.name for f in features if values[f.node] is value) for value in returned
        ], "the outputs aren't the planned features"
    else:
        assert tuple(returned.shape) == (1, plan.num_classes), f"the output is {tuple(returned.shape)}"
    return Measurement(features, maps)


def _first_conv(plan: Plan, site: Site) -> str:
    return site.convs[0].replace(".", "_") if site.convs else ""


def _features(plan: Plan, nodes: dict[str, fx.Node], values: dict[str, Any]) -> tuple[Feature, ...]:
    """Each feature with the product of the strides on its way, which its measured size must bear out."""
    reduction, reductions = 1, {}
    for site in plan.sites:
        reduction *= site.stride
        reductions[site.name] = reduction
    reductions["head"] = reduction
    features = []
    for node in nodes.values():
        if name := node.meta.get("feature"):
            shape = values[node.name].shape
            exact = plan.image_size / reductions[name]
            # Windows drop a last odd row, strided convolutions keep it: at most one pixel a site either way.
            assert exact - 1 < shape[2] < exact + 1, f"{name} is {shape[2]} pixels high, expected about {exact:.2f}"
            features.append(Feature(name, int(shape[1]), reductions[name], node.name))
    return tuple(features)


def _measure(module: fx.GraphModule, plan: Plan) -> dict[str, Any]:
    size = plan.image_size
    try:
        return propagate(module, size, size)
    except ShapeError as error:
        smallest = _smallest(module, size)
        shape = "x".join(map(str, error.shape[2:])) if error.shape else "its"
        known = f"the smallest that works is {smallest}" if smallest else "no size up to 4096 works"
        raise InputError(
            f"images of {size}x{size} are too small for {plan.architecture}: {error.node} can't take a map of {shape} "
            f"pixels; {known} (image_size)"
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
        propagate(module, size, size)  # type: ignore[arg-type]
    except ShapeError:
        return False
    return True
