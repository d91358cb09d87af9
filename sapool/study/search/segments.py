"""What networks need that share their parts: measured part by part, once, and put together.

A backbone's stages follow each other as a chain of single maps, so what a stage's operations hold at once depends on
what is done at that stage and on the map that reaches it, and on nothing else. A network is unrolled and measured whole
the first time that one of its parts is new, and rewritten once for all sizes of images that follow each other; the
timeline is then cut where one part hands its map to the next. A network of known parts is put together from these cuts,
storage by storage, and packed as a measured one is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch
from torch import fx

from sapool.analysis.parts import parts_of
from sapool.compiler import execute
from sapool.cost.arena import Buffer, arena_size, lower_bound
from sapool.cost.assumptions import BYTES, Assumptions
from sapool.cost.flops import Cost, costs, total
from sapool.cost.lifetimes import Lifetimes
from sapool.cost.limits import Needs
from sapool.cost.memory import analyse, for_device
from sapool.cost.unroll import unroll
from sapool.errors import InputError
from sapool.ir.plan import Plan
from sapool.model import CompiledModel
from sapool.passes.measure import measure

Shape = tuple[int, ...]
_SCRATCH = ".scratch"
_ANY = 8  # a size in place of every


@dataclass(frozen=True)
class Segment:
    """A part of a network: the stem, a stage with its pool, or what is behind the stages.

    Attributes:
        length: its operations.
        macs, parameters: of them.
        entry: the operation after which the map that it was given isn't needed; -1 where it needs none of it.
        through: whether that map's storage is the one that it hands on.
        exit: the operation that makes the storage that it hands on, with its bytes; of the last one, the result's.
        shape: of the map that it hands on.
        inner: bytes, first and last operation of each storage that it has for itself, in order; and of scratch.
    """

    length: int
    macs: int
    parameters: int
    entry: int
    through: bool
    exit: tuple[int, int]
    shape: Shape
    inner: tuple[tuple[int, int, int], ...]
    scratch: tuple[tuple[int, int, int], ...]


class Meter:
    """Measures networks, each part once.

    Args:
        assumptions: of the device.

    Attributes:
        measured, composed: how many networks were measured whole, and how many were put together.
    """

    def __init__(self, assumptions: Assumptions) -> None:
        self.assumptions = assumptions
        self.measured = self.composed = 0
        self._known: dict[Hashable, Segment] = {}
        self._last: tuple[Plan, CompiledModel, fx.GraphModule] | None = None

    def needs(self, plan: Plan) -> Needs:
        """What a plan's network needs for one image.

        Raises:
            InputError: images of the plan's size are too small for it.
        """
        shape: Shape = (plan.options.in_chans, *plan.options.image_size)
        found: list[Segment] = []
        for place in range(len(plan.sites) + 1):
            site = plan.sites[place] if place < len(plan.sites) else None
            if place and site is not None and site.pool is not None and min(shape[1:]) < site.stride:
                raise InputError(
                    f"images of {'x'.join(map(str, plan.options.image_size))} are too small: {site.name} would pool a "
                    f"map of {'x'.join(map(str, shape[1:]))} by {site.stride}"
                )
            known = self._known.get(_key(plan, place, shape))
            if known is None:
                return self.measure(plan)
            found.append(known)
            shape = known.shape
        self.composed += 1
        return self._together(found, plan)

    def measure(self, plan: Plan) -> Needs:
        """The same of the whole network, whatever is known of its parts; remembers them.

        Raises:
            InputError: as `needs`.
        """
        model, graph = self._unrolled(plan)
        life, owners = Lifetimes(graph, self.assumptions), parts_of(model, model.plan)
        memory, parts = analyse(graph, self.assumptions, life), costs(model, model.plan, graph)
        self.measured += 1
        places = [place for place, _ in life.operations]
        last = len(plan.sites)
        segments = [_segment(owners[node.meta["part"]], last) for _, node in life.operations]
        if segments == sorted(segments) and set(segments) == set(range(last + 1)):
            scratches = {b.name.removesuffix(_SCRATCH): b.size for b in memory.buffers if b.name.endswith(_SCRATCH)}
            sums = [total(part for part in parts if _segment(part.part, last) == at) for at in range(last + 1)]
            self._cut(plan, life, places, segments, scratches, sums)
        whole = total(parts)
        return Needs(memory.arena, memory.peak, whole.macs, whole.parameters)

    def _unrolled(self, plan: Plan) -> tuple[CompiledModel, fx.GraphModule]:
        """A plan's network, and its operations at the plan's size; the next size of the same network is made of it."""
        anywhere = plan.with_options(image_size=_ANY)
        if self._last is None or self._last[0] != anywhere:
            self._last = None  # one at a time is held
            with torch.device("meta"):
                model = execute(plan)
            self._last = anywhere, model, for_device(model, model.plan)
        _, model, twin = self._last
        try:
            return model, unroll(twin, *plan.options.image_size)
        except Exception:
            measure(model, plan)  # says it, where images are too small
            raise

    def _cut(
        self,
        plan: Plan,
        life: Lifetimes,
        places: list[int],
        segments: list[int],
        scratches: dict[str, int],
        sums: list[Cost],
    ) -> None:
        """Remembers a network's parts, as far as each hands on one storage and takes in one."""
        width, count = BYTES[self.assumptions.dtype], len(places)
        spans = {
            name: (bisect_right(places, first) - 1, bisect_right(places, last) - 1)
            for name, (first, last) in life.span.items()
        }
        shape: Shape = (plan.options.in_chans, *plan.options.image_size)
        for segment in range(len(plan.sites) + 1):
            mine = [number for number, owner in enumerate(segments) if owner == segment]
            start, stop = mine[0], mine[-1]
            into = [name for name, (first, last) in spans.items() if first < start <= last or (first < 0 and not start)]
            out = [name for name, (first, last) in spans.items() if first <= stop < last]
            ending = stop == count - 1
            if ending:
                out = [name for name in life.io if spans[name][0] >= 0]
            if len(into) != 1 or len(out) != 1:
                return
            writers = [node for _, node in life.operations[start : stop + 1] if life.storage[node.name] == out[0]]
            through = out == into
            if not writers and not through:
                return
            key = _key(plan, segment, shape)
            if writers:
                shape = tuple(writers[-1].meta["value"].shape[1:])
            if not ending and len(shape) != 3:
                return
            inner = [
                (life.elements[name] * width, first - start, last - start)
                for name, (first, last) in spans.items()
                if start <= first and last <= stop and name not in (*out, *into)
            ]
            names = [(number - start, node.name) for number, (_, node) in enumerate(life.operations) if number in mine]
            self._known[key] = Segment(
                stop - start + 1, sums[segment].macs, sums[segment].parameters,
                min(spans[into[0]][1], stop) - start, through,
                (spans[out[0]][0] - start, life.elements[out[0]] * width), shape, tuple(inner),
                tuple((scratches[name], number, number) for number, name in names if name in scratches),
            )  # fmt: skip

    def _together(self, parts: list[Segment], plan: Plan) -> Needs:
        """What a network of these parts needs."""
        width = BYTES[self.assumptions.dtype]
        image = plan.options.in_chans * plan.options.image_size[0] * plan.options.image_size[1] * width
        start, carried = 1, Buffer("0", image, 0, 0)  # the image is there before the first operation
        buffers: list[Buffer] = []
        scratches: list[Buffer] = []
        for number, part in enumerate(parts):
            carried = replace(carried, last=start + part.entry)
            for size, first, last in part.inner:
                buffers.append(Buffer(f"{number}.{first}", size, start + first, start + last))
            for size, first, last in part.scratch:
                scratches.append(Buffer(f"{number}.{first}{_SCRATCH}", size, start + first, start + last))
            if not part.through:
                buffers.append(carried)
                carried = Buffer(str(number + 1), part.exit[1], start + part.exit[0], start + part.length - 1)
            start += part.length
        buffers.append(replace(carried, last=start - 1))
        if not self.assumptions.io:
            buffers = [buffer for buffer in buffers if buffer.first > 0 and buffer.name != str(len(parts))]
        buffers.sort(key=lambda buffer: buffer.first)
        arena, _ = arena_size([*buffers, *scratches])
        peak = lower_bound([*buffers, *scratches], alignment=1)
        return Needs(arena, peak, sum(part.macs for part in parts), sum(part.parameters for part in parts))


def _key(plan: Plan, place: int, shape: Shape) -> Hashable:
    """What a part of a network depends on."""
    site = plan.sites[place] if place < len(plan.sites) else None
    whole = plan.backbone, plan.dynamic, plan.pools, replace(plan.options, image_size=(_ANY, _ANY))
    return whole, place, site, shape


def _segment(part: str, last: int) -> int:
    """Which segment a part belongs to: the stem is 0, stage N is N, what is behind them `last`."""
    name = part.removeprefix("pools.")
    if name in ("stem", "prepool"):
        return 0
    number = name.removeprefix("stage")
    return int(number) if number.isdigit() else last
