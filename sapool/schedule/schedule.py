"""A schedule: what is computed when, where it lies meanwhile, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import fx

from sapool.cost.arena import Buffer, arena_size, lower_bound
from sapool.cost.assumptions import Assumptions
from sapool.cost.lifetimes import operation_name
from sapool.cost.memory import Memory, Step
from sapool.schedule.heads.groups import Groups
from sapool.schedule.heads.split import split
from sapool.schedule.machine import Machine
from sapool.schedule.moves import Move, Region, Storage
from sapool.schedule.operations import Network, network
from sapool.schedule.order import Found, best_order


@dataclass(frozen=True)
class Schedule:
    """When each row of a network is computed, and what that takes.

    Attributes:
        net: the operations.
        order: their numbers in the order in which they are computed; 0 is the input.
        regions: stretches of that order that are computed together.
        assumptions: about the device.
        input_by_rows: whether the input comes and goes by rows.
        moves: what is computed, in order.
        storages: what is held; `where[operation][row]` is the number of a row's storage.
        plain_peak: bytes at the peak of the graph as it stands, each operation at once.
        order_peak: the same in the best order that was found; `proved` says that there is no better one.
        groups: into which groups the heads of each attention of the graph are cut; () where they are together.
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
    groups: tuple[Groups, ...] = ()

    @classmethod
    def of(
        cls,
        graph: fx.GraphModule,
        assumptions: Assumptions,
        order: Sequence[int],
        regions: Sequence[Region],
        input_by_rows: bool = False,
        groups: tuple[Groups, ...] = (),
    ) -> Schedule:
        """The schedule of given regions, as another schedule has them."""
        net = network(graph, assumptions)
        plain = Machine(net, range(len(net.operations)), assumptions, input_by_rows=input_by_rows)
        peak = plain.run([Region(place, place + 1) for place in range(1, len(net.operations))])
        net = network(split(graph, groups), assumptions) if groups else net
        found = best_order(net, assumptions, seconds=0)
        machine = Machine(net, order, assumptions, input_by_rows=input_by_rows, record=True)
        return cls.carried_out(machine, regions, peak, found, groups)

    @classmethod
    def carried_out(
        cls,
        machine: Machine,
        regions: Sequence[Region],
        plain_peak: int,
        found: Found,
        groups: tuple[Groups, ...] = (),
    ) -> Schedule:
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
            groups=groups,
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
    def solid(self) -> frozenset[int]:
        """Operations whose results are returned, or read at once, though they may be computed in bands."""
        operations = self.net.operations
        at_once = {n for r in self.regions if r.bands == 1 for n in self.order[r.start : r.stop]}
        readers = [n for n in self.order[1:] if n in at_once or operations[n].steps == 1]
        return (self.net.outputs | {source for n in readers for source in operations[n].reads}) - {0}

    @cached_property
    def _packed(self) -> tuple[int, list[Buffer]]:
        return arena_size(self.wanted)

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

    def __str__(self) -> str:
        operations, regions = len(self.net.operations) - 1, self.streamed
        most = max(map(len, self.groups), default=1)
        apart = f", heads of attention in up to {most} groups" if most > 1 else ""
        if regions:
            count, bands = sum(r.stop - r.start for r in regions), max(r.bands for r in regions)
            many = "a region" if len(regions) == 1 else f"{len(regions)} regions"
            return f"{count} of {operations} operations in {many} of up to {bands} bands of rows{apart}"
        return ("as it stands" if self.order == tuple(sorted(self.order)) else "in another order of operations") + apart

    def word(self, move: Move) -> str:
        """What a move does: an operation, and its rows if they aren't all."""
        operation = self.net.operations[move.operation]
        name = operation_name(operation.nodes[0])
        whole = move.stop - move.start == operation.steps
        return name if whole else f"{name} rows {move.start}-{move.stop - 1} of {operation.steps}"
