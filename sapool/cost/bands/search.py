"""Which stretches of a net to compute in bands, and in how many: what takes least of the runtime's whole arena.

Every copy of an operator has its own record in the runtime's part of the arena, so bands cost there what they save of
activations, in part. A path over cut points, whose edges are single operators and stretches, keeps below a bound of
activations with as little of that as can be; all bounds are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sapool.cost.arena import arena_size, greedy_by_size
from sapool.cost.bands.net import Net
from sapool.cost.bands.script import Script, Step, Stretch
from sapool.cost.micro_estimates import record

BANDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Numbers of bands that are tried."""
LONGEST = 24
"""Operators of a stretch: in a longer one what neighbouring bands both need is most of each."""


@dataclass(frozen=True)
class Edge:
    """One operator, or a stretch in bands: what is held at most meanwhile, and what the runtime's records grow by."""

    stretch: Stretch
    peak: int
    growth: int


@dataclass(frozen=True)
class Banded:
    """A net with stretches in bands.

    Attributes:
        script: what is done.
        stretches: those in bands.
        head: bytes of the arena's activations, with the plan that a file ships where that is smaller.
        growth: bytes of records beyond those of the net as it stands, estimated.
    """

    script: Script
    stretches: tuple[Stretch, ...]
    head: int
    growth: int

    def __str__(self) -> str:
        if not self.stretches:
            return ""
        count, bands = sum(s.stop - s.start for s in self.stretches), max(s.bands for s in self.stretches)
        many = "a stretch" if len(self.stretches) == 1 else f"{len(self.stretches)} stretches"
        return f"{count} of {len(self.script.net.operators)} operations in {many} of up to {bands} bands of rows"


def as_it_stands(net: Net) -> Banded:
    """The script of a net with nothing in bands."""
    return _banded(net, ())


def in_bands(net: Net, budget: int | None = None, own: int | None = None) -> Banded:
    """The script of a net with the smallest arena that was found; with a budget, the least change that fits.

    Args:
        net: the operators.
        budget: bytes that activations may take. Where nothing fits, what takes least is returned.
        own: bytes of the runtime's own part of the arena, where the budget is for that as well.

    Returns:
        The net as it stands, without stretches, where no bands make the arena smaller.
    """

    def taken(head: int, growth: int) -> int:
        return head + (growth + (own or 0) if budget is None or own is not None else 0)

    plain = as_it_stands(net)
    if budget is not None and taken(plain.head, 0) <= budget:
        return plain
    paths = _paths(net, _edges(net), plain.head)
    promising = sorted(paths, key=lambda path: taken(*paths[path]))[:_TRIED]
    fitting = [path for path in paths if budget is not None and taken(*paths[path]) <= budget]
    promising += sorted(fitting, key=lambda path: paths[path][1])[:_TRIED]
    found = [plain, *(_banded(net, path) for path in dict.fromkeys(promising))]
    enough = [banded for banded in found if budget is not None and taken(banded.head, banded.growth) <= budget]
    if enough:
        return min(enough, key=lambda banded: (banded.growth, banded.head))
    return min(found, key=lambda banded: taken(banded.head, banded.growth))


def _banded(net: Net, stretches: Sequence[Stretch]) -> Banded:
    script = Script.of(net, stretches)
    assert script is not None
    buffers = script.buffers()
    head = min(greedy_by_size(buffers), arena_size(buffers)[0])
    return Banded(script, tuple(stretches), head, growth_of(net, script.added()))


def growth_of(net: Net, steps: Iterator[Step]) -> int:
    """Bytes of records of steps beyond a net's own."""
    again = [None if step.operator is None else net.operators[step.operator] for step in steps]
    return sum(record(o.channels if o else 0, window=o is not None) for o in again)


_TRIED = 4
"""Paths whose arenas are laid out, of those with the least to hold: the runtime's layout can have holes."""


def _paths(net: Net, edges: Sequence[Edge], most: int) -> dict[tuple[Stretch, ...], tuple[int, int]]:
    """For each bound of what is held, the stretches with the least growth; with that bound, and their growth."""
    into: dict[int, list[Edge]] = {}
    for edge in edges:
        into.setdefault(edge.stretch.stop, []).append(edge)
    found: dict[tuple[Stretch, ...], tuple[int, int]] = {}
    for bound in sorted({edge.peak for edge in edges if edge.peak <= most}, reverse=True):
        best: list[tuple[int, Edge | None] | None] = [(0, None)]
        for stop in range(1, len(net.operators) + 1):
            ways = [
                (before[0] + edge.growth, edge)
                for edge in into.get(stop, ())
                if edge.peak <= bound and (before := best[edge.stretch.start]) is not None
            ]
            best.append(min(ways, key=lambda way: (way[0], way[1].peak), default=None))
        if best[-1] is None:
            break
        stretches, stop = list[Stretch](), len(net.operators)
        while (at := best[stop]) is not None and at[1] is not None:
            stretches[:0] = [at[1].stretch] if at[1].stretch.bands > 1 else []
            stop = at[1].stretch.start
        if stretches:
            found[tuple(stretches)] = bound, best[-1][0]  # the last bound that it keeps is the lowest
    return found


def _edges(net: Net) -> list[Edge]:
    """Operators at once, and stretches around those that hold more than anything that can't be in bands."""
    script = Script.of(net, ())
    assert script is not None
    held = script.held(net.inputs, net.outputs)
    edges = [Edge(Stretch(at, at + 1, 1), peak, 0) for at, peak in enumerate(held)]
    floor = max((peak for peak, o in zip(held, net.operators, strict=True) if not net.banded(o)), default=0)
    heavy = [at for at, peak in enumerate(held) if peak > floor]
    crossing = _crossing(net)
    live = [sum(script.size(n) for n in tensors) for tensors in crossing]
    cuts = [at for at in range(len(live)) if _is_low(live, at)]
    alone = max(held, default=0)
    for first, last in ((a, b) for a in cuts for b in cuts if a < b <= a + LONGEST):
        if not any(first <= at < last for at in heavy) or not all(map(net.banded, net.operators[first:last])):
            continue
        results = net.results(first, last)
        if not results or live[first] + sum(map(script.size, results)) >= alone:
            continue
        lowest = alone
        for bands in (n for n in BANDS if n <= min(net.tensors[result].rows for result in results)):
            edge = _edge(net, Stretch(first, last, bands), crossing)
            if edge is not None and edge.peak < lowest:
                lowest = edge.peak
                edges.append(edge)
    return edges


def _edge(net: Net, stretch: Stretch, crossing: Sequence[frozenset[int]]) -> Edge | None:
    script = Script(net)
    if not script.stretch(stretch):
        return None
    before, after = crossing[stretch.start], crossing[stretch.stop]
    waiting = sum(script.size(n) for n in before - {n for step in script.steps for n in step.reads})
    peak = waiting + max(script.held(before, after))
    return Edge(stretch, peak, growth_of(net, script.added()))


def _crossing(net: Net) -> list[frozenset[int]]:
    """The tensors that are needed before each operator, and those that are left at the end."""
    live, found = set(net.inputs), list[frozenset[int]]()
    for at, operator in enumerate(net.operators):
        live = {number for number in live if net.last.get(number, -1) >= at}
        found.append(frozenset(live))
        live |= set(operator.makes)
    return [*found, frozenset(live & set(net.outputs))]


def _is_low(live: Sequence[int], at: int) -> bool:
    """Whether no less is held before the operator before or after it."""
    near = live[max(at - 1, 0) : at + 2]
    return live[at] == min(near)
