"""Where to cut a network into regions: a shortest path over cut points whose edges cost bytes.

An edge is a region: one operation, computed at once, or a stretch of them, streamed. What a path costs is the highest
peak of its edges. No edge costs a multiply-accumulate more than another, since nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sapool.schedule.machine import Machine
from sapool.schedule.moves import Region

_GRAINS = (8, 16, 32, 64)
"""How many cut points are tried; more of them while there is time."""
_VALLEYS, _SKETCH = 48, 8
"""Of the places where less is held than around them, how many are tried together, and with how many bands."""


@dataclass(frozen=True)
class Path:
    """Regions that cover the network, and the bytes at their highest peak."""

    peak: int
    regions: tuple[Region, ...]


class Cuts:
    """Finds regions for one order of operations.

    Args:
        machine: before it has computed anything.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine, self.end = machine, len(machine.order)
        self.live = [0, *(self._held(place) for place in range(1, self.end + 1))]
        self.known: dict[Region, tuple[int, bool]] = {}
        for place in range(1, self.end):  # one run of the plain network tells what each operation takes
            peak = self._peak(Region(place, place + 1), None)
            self.known[Region(place, place + 1)] = (peak, True)

    def plain(self) -> Path:
        """Every operation at once."""
        regions = tuple(Region(place, place + 1) for place in range(1, self.end))
        return Path(max((self.known[region][0] for region in regions), default=0), regions)

    def best(self, bands: int, deadline: float) -> Path:
        """The lowest peak that is found with regions of so many bands, before a moment of the machine's clock."""
        found = min((self.plain(), self._path({1, self.end}, bands)), key=lambda path: path.peak)
        found = min((found, self.sketched(bands, deadline)), key=lambda path: path.peak)
        for grain in _GRAINS:
            if self.machine.clock.seconds > deadline:
                break
            other = self._path(self._points(grain), bands, found.peak, deadline)
            found = min((found, other), key=lambda path: path.peak)
            if grain >= self.end:
                break
        return found

    def sketched(self, bands: int, deadline: float) -> Path:
        """A path that is soon found: the best of a few bands, with as many as are wanted."""
        sketch = self._path(self._valleys(), min(bands, _SKETCH), self.plain().peak, deadline)
        return self._measured([Region(r.start, r.stop, bands) if r.bands > 1 else r for r in sketch.regions])

    def lightest(self, bound: int, bands: int | None = None) -> Path:
        """The path with the fewest moves within `bound` bytes, of regions that have been measured.

        Args:
            bound: no less than the peak of a path that was found.
            bands: how many a streamed region has; None for any number, and then as few in each as stay within `bound`.
        """
        into: dict[int, list[Region]] = {}
        for region, (peak, exact) in self.known.items():
            if exact and peak <= bound and (bands is None or region.bands in (1, bands)):
                into.setdefault(region.stop, []).append(region)
        best: dict[int, tuple[int, Region | None]] = {1: (0, None)}
        for stop in range(2, self.end + 1):
            costs = [(best[r.start][0] + self._moves(r), r) for r in into.get(stop, ()) if r.start in best]
            if costs:
                best[stop] = min(costs, key=lambda item: item[0])
        regions = self._back({stop: region for stop, (_, region) in best.items()})
        return self._measured(regions if bands is not None else [self._coarsened(r, bound) for r in regions])

    def _moves(self, region: Region) -> int:
        steps = self.machine.steps
        return sum(min(region.bands, steps[n]) for n in self.machine.order[region.start : region.stop])

    def _coarsened(self, region: Region, bound: int) -> Region:
        """The same region with as few bands as stay within `bound` bytes."""
        ladder = _ladder(region.bands) if region.bands > 1 else []
        fitting = (Region(region.start, region.stop, bands) for bands in ladder)
        return next((other for other in fitting if self._peak(other, bound + 1) <= bound), region)

    def _measured(self, regions: Sequence[Region]) -> Path:
        return Path(max((self._peak(region, None) for region in regions), default=0), tuple(regions))

    def _back(self, into: Mapping[int, Region | None]) -> list[Region]:
        """The regions of the path that ends at the last place."""
        regions, stop = list[Region](), self.end
        while stop > 1:
            region = into[stop]
            assert region is not None
            regions.insert(0, region)
            stop = region.start
        return regions

    def _path(self, points: set[int], bands: int, bound: int | None = None, deadline: float | None = None) -> Path:
        """The bottleneck shortest path through given cut points; operations between them can still stand alone."""
        far = 1 << 62
        best: dict[int, tuple[int, Region | None]] = {1: (0, None)}
        for stop in range(2, self.end + 1):
            alone = Region(stop - 1, stop)
            cost, region = max(best[stop - 1][0], self._peak(alone, None)), alone
            if stop in points:
                starts = sorted(
                    (max(best[start][0], self.live[start], self.live[stop]), start)
                    for start in points
                    if start < stop - 1
                )
                for floor, start in starts:
                    limit = min(cost, far if bound is None else bound)
                    if floor >= limit or (deadline is not None and self.machine.clock.seconds > deadline):
                        break
                    peak = max(floor, self._peak(Region(start, stop, bands), limit))
                    if peak < cost:
                        cost, region = peak, Region(start, stop, bands)
            best[stop] = cost, region
        regions = self._back({stop: region for stop, (_, region) in best.items()})
        return Path(best[self.end][0], tuple(regions))

    def _points(self, grain: int) -> set[int]:
        """So many places over the network, each where the least is held of its neighbourhood."""
        span = max((self.end - 1) / grain, 1.0)
        found, place = {1, self.end}, 1.0
        while place < self.end:
            near = range(int(place), min(max(int(place + span), int(place) + 1), self.end))
            found.add(min(near, key=lambda at: self.live[at]))
            place += span
        return found

    def _valleys(self) -> set[int]:
        """Places where less is held than around them; of many the lowest of each stretch."""
        live = self.live
        found = [at for at in range(2, self.end) if live[at] <= live[at - 1] and live[at] < live[at + 1]]
        span = -(-len(found) // _VALLEYS)
        return {
            1,
            self.end,
            *(min(found[at : at + span], key=lambda p: live[p]) for at in range(0, len(found), span or 1)),
        }

    def _peak(self, region: Region, bound: int | None) -> int:
        """The peak of one region; any figure from `bound` up where it is that high."""
        peak, exact = self.known.get(region, (0, False))
        if exact or (bound is not None and peak >= bound):
            return peak
        machine = self.machine.fork()
        machine.skip(region.start)
        machine.peak = 0
        exact = machine.region(region, bound)
        self.known[region] = (machine.peak, exact)
        return machine.peak

    def _held(self, place: int) -> int:
        machine = self.machine.fork()
        machine.skip(place)
        return machine.live


def _ladder(most: int) -> list[int]:
    """Numbers of bands, from few to many: 2, 3, 4, 6, 8, 12, ..."""
    return sorted({n << k for n in (2, 3) for k in range(most.bit_length()) if n << k < most})
