"""Measuring a rewritten graph: its feature maps, and what reaches each site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor, fx

from sapool.analysis.shapes import ShapeError, propagate
from sapool.errors import InputError
from sapool.ir.options import Options
from sapool.ir.plan import Plan
from sapool.ir.site import Site

# Pixels that no tensor can have; strides that need more leave a single pixel of any real image.
_FARTHEST = 10**6
# All strides together, so many times: rounding moves a map by a pixel at most, a wrong reduction by more.
_PERIODS = 4
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
        module: path of the module whose map it is: a stage's, or its pool's.
    """

    name: str
    channels: int
    reduction: int
    node: str
    module: str = ""


class FeatureInfo(tuple[Feature, ...]):
    """The maps that a model returns, or could return; with the methods that timm's models have for that.

    timm numbers all maps, and the methods take such numbers. A tuple's own are those of the maps that are returned.

    Args:
        every: all maps that there are.
        out_indices: numbers of those that are returned, in order; None for all.

    Attributes:
        every: all maps.
        out_indices: as given.
    """

    every: tuple[Feature, ...]
    out_indices: tuple[int, ...]

    def __new__(cls, every: Iterable[Feature], out_indices: Iterable[int] | None = None) -> FeatureInfo:
        whole = tuple(every)
        indices = tuple(range(len(whole)) if out_indices is None else out_indices)
        info = super().__new__(cls, [whole[index] for index in indices])
        info.every, info.out_indices = whole, indices
        return info

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureInfo, (self.every, self.out_indices)

    @property
    def info(self) -> list[dict[str, Any]]:
        """timm's record of each map, returned or not."""
        return [
            {
                "num_chs": f.channels,
                "reduction": f.reduction,
                "module": f.module or f.name,
                "index": index,
                "name": f.name,
            }
            for index, f in enumerate(self.every)
        ]

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """One field of timm's records: of the maps that are returned, or of those with these numbers."""
        info = self.info
        if isinstance(idx, int):
            return info[idx][key]
        return [info[index][key] for index in (self.out_indices if idx is None else idx)]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of the maps that are returned, or of those with these numbers."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Image side over map side, as `channels`."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Paths of the modules whose maps they are, as `channels`."""
        return self.get("module", idx)

    def get_dicts(self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None) -> Any:
        """timm's records with these fields, or all, as `channels`."""
        info = [{key: entry[key] for key in keys or entry} for entry in self.info]
        if isinstance(idx, int):
            return info[idx]
        return [info[index] for index in (self.out_indices if idx is None else idx)]


@dataclass(frozen=True)
class Measurement:
    """What a graph does with an image of the plan's size.

    Attributes:
        features: every feature of the model.
        maps: each site's input size in pixels (height, width).
        values: of each node, by name, on the meta device.
        larger: the same for an image larger by `grown` pixels; `values` itself where none is so large.
        grown: a multiple of all strides together.
    """

    features: tuple[Feature, ...]
    maps: dict[str, Size]
    values: dict[str, Any] = field(repr=False)
    larger: dict[str, Any] = field(repr=False)
    grown: int


def measure(module: fx.GraphModule, plan: Plan) -> Measurement:
    """Measures a rewritten graph.

    Raises:
        InputError: images of the plan's size are too small for the network.
    """
    step = prod(site.stride for site in plan.sites)
    values, larger = _propagated(module, plan, _PERIODS * step if step <= _FARTHEST else None)
    nodes = {node.name: node for node in module.graph.nodes}
    maps: dict[str, Size] = {}
    for site in plan.sites:
        node = next((nodes[name] for name in _takers(site) if name in nodes), None)
        if node is not None:  # else no wanted feature map needs it
            _, _, height, width = values[node.all_input_nodes[0].name].shape
            maps[site.name] = (int(height), int(width))
    return Measurement(_features(plan, nodes, values), maps, values, larger, _PERIODS * step)


def _takers(site: Site) -> Iterator[str]:
    """Names of the nodes that may take what is downsampled at a site: its pool, its filters, its strided operations."""
    yield site.node
    for name, _ in site.restride.strides if site.restride else ():
        yield site.filter_node(name)
        yield name


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
        Feature(name, int(values[node.name].shape[1]), reductions[name], node.name, _module(plan, name, node))
        for name, node in marked
        if isinstance(values[node.name], Tensor)
    )


def _module(plan: Plan, name: str, node: fx.Node) -> str:
    """The path of the module whose map a feature is: a pool's, or of its stage the container or the last block."""
    if node.op == "call_module" and str(node.target).startswith("pools."):
        return str(node.target)
    parts = dict(plan.parts)
    if not parts[name]:
        return ""
    parents = {path.rpartition(".")[0] for path in parts[name]}
    others = {path.rpartition(".")[0] for part, paths in parts.items() if part != name for path in paths}
    return parents.pop() if len(parents) == 1 and not parents & {"", *others} else parts[name][-1]


def _propagated(module: fx.GraphModule, plan: Plan, grown: int | None) -> list[dict[str, Any]]:
    """What every node returns for an image of the plan's size, and for one that is larger by so many pixels."""
    height, width = plan.options.image_size
    try:
        if grown is None:
            return propagate(module, (height, width)) * 2
        return propagate(module, (height, width), (height + grown, width + grown))
    except ShapeError as error:
        raise too_small(module, plan, error) from None


def too_small(module: fx.GraphModule, plan: Plan, error: ShapeError) -> InputError:
    """What to say of a network whose operations refuse the shapes that reach them."""
    channels = plan.options.in_chans
    if channels != Options.in_chans and "channels" in error.reason:
        told = f"{error.node} refuses them ({error.reason})"
        return InputError(f"in_chans: {plan.architecture} can't take images of {channels} channels: {told}")
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
