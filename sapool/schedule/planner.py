"""`plan`: the schedule of an unrolled graph with the lowest peak, or the least streaming that fits a budget."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from sapool.cost.assumptions import BYTES, Assumptions
from sapool.errors import InputError
from sapool.schedule.cuts import Cuts, Path
from sapool.schedule.heads.choice import needs
from sapool.schedule.heads.groups import Groups
from sapool.schedule.heads.split import split
from sapool.schedule.machine import Machine
from sapool.schedule.moves import Clock
from sapool.schedule.operations import network
from sapool.schedule.order import best_order
from sapool.schedule.schedule import Schedule

_NEAR = 0.95
"""Of a peak: where attention alone holds as much, it is what the peak is due to."""
BANDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of bands that are tried, from few to many, before rows are computed one by one."""


def plan(
    graph: fx.GraphModule,
    assumptions: Assumptions | None = None,
    *,
    budget: int | None = None,
    bands: int | None = None,
    input_by_rows: bool = False,
    seconds: float = 2.0,
) -> Schedule:
    """Schedules an unrolled graph (`sapool.cost.unroll.unroll`).

    Without `budget` and `bands` the schedule has the lowest peak that was found. It is never worse than the plain one.

    Args:
        graph: batch norms folded or not.
        assumptions: about the device.
        budget: bytes that the arena may take. The least change that fits is chosen: none, another order of operations,
            few bands, many; where nothing fits, the schedule with the lowest peak (its `arena` tells).
        bands: into how many bands to cut each region's maps.
        input_by_rows: the input comes and goes by rows, as from a camera that is read by lines; each is held from its
            first use to its last.
        seconds: the time limit of the search, of which a third at most goes into the order of operations. Its steps are
            counted for that, not timed: the same search finds the same anywhere.

    Raises:
        InputError: `bands` or `budget` isn't positive, or both are given.
    """
    assumptions = assumptions or Assumptions()
    if budget is not None and bands is not None:
        raise InputError("budget and bands: give one of them; a budget decides how many bands there are")
    for name, value in (("budget", budget), ("bands", bands)):
        if value is not None and value < 1:
            raise InputError(f"{name}: expected a positive number, not {value}")
    return _Variants(graph, assumptions, input_by_rows, seconds).plan(budget, bands)


class _Variants:
    """The graph as it stands, and with the heads of its attention in groups, where that takes less."""

    def __init__(self, graph: fx.GraphModule, assumptions: Assumptions, input_by_rows: bool, seconds: float) -> None:
        self.graph, self.assumptions, self.input_by_rows = graph, assumptions, input_by_rows
        self.seconds, self.clock = seconds, Clock()
        self.whole = _Planner(graph, assumptions, input_by_rows, seconds, self.clock)
        self.needs = needs(graph, self.whole.net, self.whole.cuts[0].live, BYTES[assumptions.dtype])
        self.together = max((need.peak((need.heads,)) for need in self.needs), default=0)
        self.apart = max((need.lowest for need in self.needs), default=0)

    def plan(self, budget: int | None, bands: int | None) -> Schedule:
        if self.apart == self.together:
            return self.whole.plan(budget, bands)
        return self._within(budget) if budget is not None else self._lowest(bands)

    def _lowest(self, bands: int | None) -> Schedule:
        found = list[Schedule]()
        if bands is not None or self.together < _NEAR * self.whole.sketched():
            self.whole.deadline = self.seconds / 2
            found.append(self.whole.plan(None, bands))
            if self.together < _NEAR * found[0].peak:
                return found[0]
        found.append(self._split(self.apart).plan(None, bands))
        if bands is None and self._groups(found[-1].peak) != found[-1].groups and self.clock.seconds < self.seconds:
            found.append(self._split(found[-1].peak).plan(None, None))  # other things hold so much anyhow
        return min(found, key=lambda schedule: (schedule.peak, sum(map(len, schedule.groups))))

    def _within(self, budget: int) -> Schedule:
        """The least change that fits: heads together, few groups of them, or many."""
        found = dict[tuple[Groups, ...], Schedule]()
        for most in (self.together, budget * 15 // 16, self.apart):
            groups = self._groups(most)
            if self.apart <= most <= budget and groups not in found:
                planner = self.whole if not groups else self._split(most)
                found[groups] = planner.plan(budget, None)
                if found[groups].arena <= budget:
                    return found[groups]
        return min([*found.values(), self._lowest(None)], key=lambda schedule: schedule.peak)

    def _groups(self, most: int) -> tuple[Groups, ...]:
        """For each attention as few groups as take so many bytes; () where all heads are together."""
        groups = tuple(need.fewest(most) for need in self.needs)
        return groups if any(len(counts) > 1 for counts in groups) else ()

    def _split(self, most: int) -> _Planner:
        """A planner of the graph with as few groups of heads as take so many bytes."""
        groups = self._groups(most)
        plain = self.whole.cuts[0].plain().peak
        made = split(self.graph, groups)
        planner = _Planner(made, self.assumptions, self.input_by_rows, self.seconds, self.clock, groups, plain)
        planner.deadline = max(self.seconds, self.clock.seconds + self.seconds / 2)
        return planner


class _Planner:
    """Plans one graph.

    Args:
        seconds: until this one must be done, as the clock tells it.
        groups: how the heads of its attention have been cut.
        plain_peak: bytes at the peak of the graph as it stands; None where this is it.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        assumptions: Assumptions,
        input_by_rows: bool,
        seconds: float,
        clock: Clock,
        groups: tuple[Groups, ...] = (),
        plain_peak: int | None = None,
    ) -> None:
        self.clock, self.groups = clock, groups
        self.net, self.assumptions, self.input_by_rows = network(graph, assumptions), assumptions, input_by_rows
        given = tuple(range(len(self.net.operations)))
        self.found = best_order(self.net, assumptions, seconds=seconds / 3, clock=self.clock)
        self.orders = [given] if self.found.order == given else [given, self.found.order]
        self.cuts = [Cuts(self._machine(order)) for order in self.orders]
        self.plain_peak = self.cuts[0].plain().peak if plain_peak is None else plain_peak
        self.deadline = seconds
        self.rows = max(operation.steps for operation in self.net.operations)

    def sketched(self) -> int:
        """Bytes at the peak of a schedule that is soon found."""
        return self.cuts[0].sketched(self.rows, self.deadline).peak

    def plan(self, budget: int | None, bands: int | None) -> Schedule:
        plain = [(cuts.plain(), at) for at, cuts in enumerate(self.cuts)]
        if bands is not None:
            return self._lowest([*plain, *self._streamed(min(bands, self.rows))], min(bands, self.rows))
        if budget is None:
            # Row by row is nearly always best. Where it isn't, some operation waits with many rows for another.
            found = [*plain, *self._streamed(self.rows)]
            for count in (2, 8, 32):
                found += self._streamed(count) if count < self.rows and self.clock.seconds < self.deadline else []
            return self._lowest(found)
        for path, at in plain:
            if path.peak <= budget and (schedule := self._schedule(path, at)).arena <= budget:
                return schedule
        for count in [*(n for n in BANDS if n < self.rows), self.rows]:
            for path, at in sorted(self._streamed(count), key=lambda found: found[0].peak):
                # An arena is a little larger than the peak, mostly.
                for bound in (budget, budget * 15 // 16, path.peak) if path.peak <= budget else ():
                    lighter = self.cuts[at].lightest(max(bound, path.peak))
                    if (schedule := self._schedule(lighter, at)).arena <= budget:
                        return schedule
        return self._lowest([*plain, *self._streamed(self.rows)])

    def _streamed(self, bands: int) -> list[tuple[Path, int]]:
        now = self.clock.seconds
        left = max(self.deadline - now, 0.2)
        moments = [now + left * (at + 1) / len(self.cuts) for at in range(len(self.cuts))]
        return [(cuts.best(bands, moments[at]), at) for at, cuts in enumerate(self.cuts)] if bands > 1 else []

    def _lowest(self, found: Sequence[tuple[Path, int]], bands: int | None = None) -> Schedule:
        path, at = min(found, key=lambda item: (item[0].peak, -len(item[0].regions)))
        return self._schedule(self.cuts[at].lightest(path.peak, bands), at)

    def _machine(self, order: Sequence[int], *, record: bool = False) -> Machine:
        return Machine(
            self.net, order, self.assumptions, input_by_rows=self.input_by_rows, record=record, clock=self.clock
        )

    def _schedule(self, path: Path, at: int) -> Schedule:
        machine = self._machine(self.orders[at], record=True)
        return Schedule.carried_out(machine, path.regions, self.plain_peak, self.found, self.groups)
