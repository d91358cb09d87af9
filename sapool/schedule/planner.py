"""`plan`: the schedule of an unrolled graph with the lowest peak, or the least streaming that fits a budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import fx

from sapool.cost.arena import Buffer, arena_size, lower_bound
from sapool.cost.assumptions import Assumptions
from sapool.cost.lifetimes import operation_name
from sapool.cost.memory import Memory, Step
from sapool.errors import InputError
from sapool.schedule.cuts import Cuts, Path
from sapool.schedule.machine import Machine, Move, Region, Storage
from sapool.schedule.operations import Network, network
from sapool.schedule.order import Found, best_order

BANDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of bands that are tried, from few to many, before rows are computed one by one."""


@dataclass(frozen=True)
class Schedule:
    """When each row of a network is computed, and what that takes.

    Attributes:
        net: the operations.
        order: their numbers in the order in which they are computed; 0 is the input.
        regions: stretches of that order that are computed together.
        assumptions: about the device.
        input_by_rows: whether the input's rows are let go one by one.
        moves: what is computed, in order.
        storages: what is held; `where[operation][row]` is the number of a row's storage.
        plain_peak: bytes at the peak of the graph as it stands, each operation at once.
        order_peak: the same in the best order that was found; `proved` says that there is no better one.
    """

    net: Network
    order: tuple[int, ...]
    regions: tuple[Region, ...]
    assumptions: Assumptions
    input_by_rows: bool
    moves: tuple[Move, ...]
    storages: tuple[Storage, ...]
    where: tuple[tuple[int, ...], ...]
    plain_peak: int
    order_peak: int
    proved: bool

    @classmethod
    def of(
        cls,
        graph: fx.GraphModule,
        assumptions: Assumptions,
        order: Sequence[int],
        regions: Sequence[Region],
        input_by_rows: bool = False,
    ) -> Schedule:
        """The schedule of given regions, as another schedule has them."""
        net = network(graph, assumptions)
        found = best_order(net, assumptions, seconds=0)
        plain = Machine(net, range(len(net.operations)), assumptions, input_by_rows=input_by_rows)
        peak = plain.run([Region(place, place + 1) for place in range(1, len(net.operations))])
        machine = Machine(net, order, assumptions, input_by_rows=input_by_rows, record=True)
        return cls.carried_out(machine, regions, peak, found)

    @classmethod
    def carried_out(cls, machine: Machine, regions: Sequence[Region], plain_peak: int, found: Found) -> Schedule:
        """The schedule that a recording machine follows through regions."""
        machine.run(regions)
        moves, storages = machine.timeline()
        return cls(
            net=machine.net,
            order=tuple(machine.order),
            regions=tuple(regions),
            assumptions=machine.assumptions,
            input_by_rows=machine.input_by_rows,
            moves=tuple(moves),
            storages=tuple(storages),
            where=tuple(map(tuple, machine.where)),
            plain_peak=plain_peak,
            order_peak=found.peak,
            proved=found.proved,
        )

    @property
    def peak(self) -> int:
        """Bytes at the peak."""
        return max((move.total for move in self.moves[1:]), default=0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all moves."""
        operations = self.net.operations
        whole = [sum(node.meta.get("macs", 0) for node in operation.nodes) for operation in operations]
        return sum(whole[m.operation] * (m.stop - m.start) // operations[m.operation].steps for m in self.moves)

    @property
    def streamed(self) -> tuple[Region, ...]:
        """The regions that are computed in bands."""
        return tuple(region for region in self.regions if region.bands > 1)

    @cached_property
    def _packed(self) -> tuple[int, list[Buffer]]:
        return arena_size(self.wanted, seconds=0.5)

    @property
    def arena(self) -> int:
        """Bytes of one buffer that holds every storage at a fixed place; not less than `bound`."""
        return self._packed[0]

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The storages with their places in the arena: those of `wanted`."""
        return tuple(self._packed[1])

    @property
    def bound(self) -> int:
        """Bytes that no arena for these moves can do with less than."""
        return lower_bound(self.wanted)

    @cached_property
    def wanted(self) -> list[Buffer]:
        """What an arena has to hold: each storage that counts, and each operation's scratch, without places."""
        held = [
            Buffer(str(number), storage.size, storage.first, storage.last)
            for number, storage in enumerate(self.storages)
            if storage.counted
        ]
        scratch = [Buffer(f"scratch {at}", m.scratch, at, at) for at, m in enumerate(self.moves) if m.scratch]
        return held + scratch

    @property
    def timeline(self) -> tuple[Step, ...]:
        """The moves as the steps of a memory report."""
        operations = self.net.operations
        return tuple(
            Step(operations[m.operation].name, operations[m.operation].part, self.word(m), m.live, m.scratch)
            for m in self.moves[1:]
        )

    def memory(self) -> Memory:
        """This schedule's activation memory, as that of a network that isn't streamed is reported."""
        return Memory(self.timeline, self.arena, self.buffers, self.assumptions)

    def word(self, move: Move) -> str:
        """What a move does: an operation, and its rows if they aren't all."""
        operation = self.net.operations[move.operation]
        name = operation_name(operation.nodes[0])
        whole = move.stop - move.start == operation.steps
        return name if whole else f"{name} rows {move.start}-{move.stop - 1} of {operation.steps}"


def plan(
    graph: fx.GraphModule,
    assumptions: Assumptions | None = None,
    *,
    budget: int | None = None,
    bands: int | None = None,
    input_by_rows: bool = False,
    seconds: float = 2.5,
) -> Schedule:
    """Schedules an unrolled graph (`sapool.cost.unroll.unroll`).

    Without `budget` and `bands` the schedule has the lowest peak that was found. It is never worse than the plain one.

    Args:
        graph: batch norms folded or not.
        assumptions: about the device.
        budget: bytes that the arena may take. The least change that fits is chosen: none, another order of operations,
            few bands, many; where nothing fits, the schedule with the lowest peak (its `arena` tells).
        bands: into how many bands to cut each region's maps.
        input_by_rows: let the input's rows go one by one, as of a camera that is read by lines.
        seconds: the time limit of the search, of which a third at most goes into the order of operations.

    Raises:
        InputError: `bands` or `budget` isn't positive, or both are given.
    """
    assumptions = assumptions or Assumptions()
    if budget is not None and bands is not None:
        raise InputError("budget and bands: give one of them; a budget decides how many bands there are")
    for name, value in (("budget", budget), ("bands", bands)):
        if value is not None and value < 1:
            raise InputError(f"{name}: expected a positive number, not {value}")
    return _Planner(graph, assumptions, input_by_rows, seconds).plan(budget, bands)


class _Planner:
    def __init__(self, graph: fx.GraphModule, assumptions: Assumptions, input_by_rows: bool, seconds: float) -> None:
        started = time.monotonic()
        self.net, self.assumptions, self.input_by_rows = network(graph, assumptions), assumptions, input_by_rows
        given = tuple(range(len(self.net.operations)))
        self.found = best_order(self.net, assumptions, seconds=seconds / 3)
        self.orders = [given] if self.found.order == given else [given, self.found.order]
        self.cuts = [Cuts(self._machine(order)) for order in self.orders]
        self.deadline = started + seconds
        self.rows = max(operation.steps for operation in self.net.operations)

    def plan(self, budget: int | None, bands: int | None) -> Schedule:
        plain = [(cuts.plain(), at) for at, cuts in enumerate(self.cuts)]
        if bands is not None:
            return self._lowest([*plain, *self._streamed(min(bands, self.rows))])
        if budget is None:
            # Row by row is nearly always best. Where it isn't, some operation waits with many rows for another.
            found = [*plain, *self._streamed(self.rows)]
            for count in (2, 8, 32):
                found += self._streamed(count) if count < self.rows and time.monotonic() < self.deadline else []
            return self._lowest(found, coarsen=True)
        for path, at in plain:
            if path.peak <= budget and (schedule := self._schedule(path, at)).arena <= budget:
                return schedule
        for count in [*(n for n in BANDS if n < self.rows), self.rows]:
            for path, at in sorted(self._streamed(count), key=lambda found: found[0].peak):
                if path.peak <= budget:
                    coarse = self.cuts[at].coarsened(path, max(path.peak, budget * 15 // 16))
                    for candidate in (coarse, path):
                        if (schedule := self._schedule(candidate, at)).arena <= budget:
                            return schedule
        return self._lowest([*plain, *self._streamed(self.rows)])

    def _streamed(self, bands: int) -> list[tuple[Path, int]]:
        left = max(self.deadline - time.monotonic(), 0.2)
        moments = [time.monotonic() + left * (at + 1) / len(self.cuts) for at in range(len(self.cuts))]
        return [(cuts.best(bands, moments[at]), at) for at, cuts in enumerate(self.cuts)] if bands > 1 else []

    def _lowest(self, found: Sequence[tuple[Path, int]], *, coarsen: bool = False) -> Schedule:
        path, at = min(found, key=lambda item: (item[0].peak, -len(item[0].regions)))
        if coarsen:
            path = self.cuts[at].coarsened(path, path.peak)
        return self._schedule(path, at)

    def _machine(self, order: Sequence[int], *, record: bool = False) -> Machine:
        return Machine(self.net, order, self.assumptions, input_by_rows=self.input_by_rows, record=record)

    def _schedule(self, path: Path, at: int) -> Schedule:
        return Schedule.carried_out(
            self._machine(self.orders[at], record=True), path.regions, self.cuts[0].plain().peak, self.found
        )
