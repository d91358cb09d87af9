"""Carrying out a schedule on paper: which rows are computed when, what is held meanwhile, and what can be let go.

A region is a stretch of operations that are computed together, band by band: whenever rows become ready, the operation
farthest down that can use them goes on. So each operation keeps the last rows that its next band needs and nothing
more, a residual waits for the slower branch, and no row is computed twice. A region of one operation is computed at
once, which is how networks are run that aren't streamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from heapq import heappop, heappush
from itertools import accumulate

from sapool.cost.assumptions import BYTES, Assumptions
from sapool.schedule.moves import Clock, Move, Region, Storage
from sapool.schedule.operations import ACCUMULATOR, Network


class Machine:
    """The state of a network's memory while it is computed.

    Args:
        net: the operations.
        order: their numbers in the order in which they are computed; the input is first.
        assumptions: about the device.
        input_by_rows: whether the input comes and goes by rows, as from a camera that is read by lines. Else it is
            there from the beginning until its last use.
        record: keep each move and each storage.
        clock: counts what is computed, forks included.
    """

    def __init__(
        self,
        net: Network,
        order: Sequence[int],
        assumptions: Assumptions,
        *,
        input_by_rows: bool = False,
        record: bool = False,
        clock: Clock | None = None,
    ) -> None:
        operations = net.operations
        self.net, self.order, self.assumptions, self.record = net, list(order), assumptions, record
        self.input_by_rows, self.clock = input_by_rows, clock or Clock()
        self.place = {number: place for place, number in enumerate(order)}
        self.width = BYTES[assumptions.dtype]
        self.steps = [operation.steps for operation in operations]
        self.size = [operation.row_size * self.width for operation in operations]
        self.counted = [assumptions.io or not (n == 0 or n in net.outputs) for n in range(len(operations))]
        self.reads = [
            [(source, reach.first, reach.last) for source, reach in operation.reads.items()] for operation in operations
        ]
        self.users: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in operations]
        for number, reads in enumerate(self.reads):
            for source, first, _ in reads:
                whole = source == 0 and not input_by_rows
                self.users[source].append((number, (0,) * len(first) if whole else first))
        self.done = [0] * len(operations)
        self.available = [0] * len(operations)
        self.freed = [0] * len(operations)
        self.held: list[list[int]] = [[] for _ in operations]  # bytes of each computed row's storage
        self.live = self.peak = 0
        self.moves: list[Move] = []
        self.storages: list[Storage] = []
        self.where: list[list[int]] = [[] for _ in operations]  # the storage of each row
        self._read_input()

    def run(self, regions: Sequence[Region]) -> int:
        """Computes regions one after another; returns the bytes at the peak."""
        for region in regions:
            self.region(region)
        return self.peak

    def fork(self) -> Machine:
        """A machine in the state before anything was computed, sharing what doesn't change."""
        other = copy(self)
        operations = self.net.operations
        other.done, other.available, other.freed = ([0] * len(operations) for _ in range(3))
        other.held, other.where = [[] for _ in operations], [[] for _ in operations]
        other.moves, other.storages = [], []
        other.live = other.peak = 0
        other._read_input()
        return other

    def _read_input(self) -> None:
        if not self.input_by_rows:
            self._compute(0, self.net.operations[0].steps)

    def skip(self, stop: int) -> None:
        """Takes for granted that all operations before a place have been computed."""
        for number in self.order[1 if stop == 1 or not self.input_by_rows else 0 : stop]:
            operation = self.net.operations[number]
            self.done[number], self.available[number] = operation.steps, operation.rows
            self.held[number] = [self.size[number] if self.counted[number] else 0] * operation.rows
        self.live = 0
        for number in self.order[:stop]:
            self.freed[number] = self._needed(number)
            self.live += sum(self.held[number][self.freed[number] :])
        self.peak = self.live

    def region(self, region: Region, bound: int | None = None) -> bool:
        """Computes one region; False where it gave up because the peak reached `bound`."""
        order, place = self.order, self.place
        first = 0 if region.start == 1 and self.input_by_rows else region.start
        caps = {n: -(-self.steps[n] // region.bands) for n in order[first : region.stop]}
        ready = {n: self._producible(n, 0) for n in caps}
        heap = [-place[n] for n in caps if ready[n]]
        heap.sort()
        while heap:
            number = order[-heappop(heap)]
            start, limit = self.done[number], ready[number]
            if start >= limit:
                continue
            stop, cap = limit, caps[number]
            if limit - start > cap and 2 * (limit - start - cap) > cap - 1:
                stop = start + cap
            self._compute(number, stop)
            if bound is not None and self.peak >= bound:
                return False
            if stop < limit:
                heappush(heap, -place[number])
            for user, _ in self.users[number]:
                if user in caps and ready[user] < self.steps[user]:
                    reached = self._producible(user, ready[user])
                    if reached > ready[user]:
                        ready[user] = reached
                        heappush(heap, -place[user])
        assert all(self.done[n] == self.steps[n] for n in caps), "a region waits for what it doesn't compute"
        return True

    def timeline(self) -> tuple[list[Move], list[Storage]]:
        """The moves and storages of a finished run.

        What the network's input or outputs lie in counts from its beginning as they do.
        """
        end = len(self.moves) - 1
        outside = {number for at in (0, *self.net.outputs) for number in self.where[at]}
        storages = [
            replace(s, last=min(s.last, end), counted=self.assumptions.io or number not in outside)
            for number, s in enumerate(self.storages)
        ]
        changes = [0] * (end + 2)
        for storage in storages:
            if storage.counted:
                changes[storage.first] += storage.size
                changes[storage.last + 1] -= storage.size
        return [replace(m, live=live) for m, live in zip(self.moves, accumulate(changes), strict=False)], storages

    def _producible(self, number: int, known: int) -> int:
        """How far an operation can go with the rows that there are."""
        stop = self.steps[number]
        for source, _, last in self.reads[number]:
            rows, reached = self.available[source], known
            while reached < stop and last[reached] <= rows:
                reached += 1
            stop = reached
        return stop

    def _needed(self, number: int) -> int:
        """The first of an operation's rows that is still needed."""
        operation = self.net.operations[number]
        if number in self.net.outputs:
            return 0
        needed = operation.rows
        for user, first in self.users[number]:
            at = self.done[user]
            if at < self.steps[user] and first[at] < needed:
                needed = first[at]
        return needed

    def _compute(self, number: int, stop: int) -> None:
        operation, start = self.net.operations[number], self.done[number]
        self.done[number] = stop
        self.clock.steps += 1
        begin, end = self._produced(number, start, stop)
        dying = [(source, self.freed[source], self._dead(source)) for source, _, _ in self.reads[number]]
        dying = [(source, low, high) for source, low, high in dying if low < high]
        over = self._overwritten(number, begin, end, dying) if operation.over and dying else {}
        size = self.size[number] if self.counted[number] else 0
        if operation.summing and stop < operation.steps:
            size = size // self.width * max(self.width, ACCUMULATOR)
        held = self.held[number]
        for row in range(begin, end):
            taken = over.get(row)
            if taken is None:
                held.append(size)
                self.live += size
            else:
                held.append(self.held[taken[0]][taken[1]])
        scratch = (operation.scratch[0] + operation.scratch[1] * (stop - start)) * self.width
        if number:
            self.peak = max(self.peak, self.live + scratch)
        if self.record:
            self._write(number, (start, stop), (begin, end), over, dying, scratch)
        kept = set(over.values())
        for source, low, high in dying:
            self._free(source, low, high, kept)
        low, high = self.freed[number], self._dead(number)
        if low < high:  # rows that nobody reads
            self._free(number, low, high, set())
            dying.append((number, low, high))
        if self.record:
            freed = tuple((source, high) for source, _, high in dying)
            self.moves[-1] = replace(self.moves[-1], freed=freed)

    def _produced(self, number: int, start: int, stop: int) -> tuple[int, int]:
        """The rows whose storage begins when an operation goes from step `start` to `stop`."""
        operation = self.net.operations[number]
        if operation.summing:
            self.available[number] = operation.rows if stop == operation.steps else 0
            return (0, operation.rows) if start == 0 else (0, 0)
        if operation.steps != operation.rows:  # it can't be divided
            start, stop = 0, operation.rows
        self.available[number] = stop
        return start, stop

    def _dead(self, number: int) -> int:
        """The first of an operation's rows that isn't both computed and needed no longer."""
        return min(self._needed(number), self.available[number])

    def _overwritten(
        self, number: int, begin: int, end: int, dying: list[tuple[int, int, int]]
    ) -> dict[int, tuple[int, int]]:
        """For rows of a result, the rows of an operand in whose storage they are written."""
        operation, found = self.net.operations[number], dict[int, tuple[int, int]]()
        for source, low, high in dying:
            if source not in operation.over:
                continue
            if operation.depthwise:
                # A smaller row would hold a larger one's storage for as long as it is needed itself.
                everything = end - begin == operation.rows
                if self.size[source] != self.size[number] and not everything:
                    continue
                rows = zip(range(begin, end), range(low, high), strict=False)
                found.update((row, (source, old)) for row, old in rows if row not in found)
            elif self.net.operations[source].rows == operation.rows:
                rows_ = range(max(begin, low), min(end, high))
                found.update((row, (source, row)) for row in rows_ if row not in found)
        return found

    def _free(self, number: int, low: int, high: int, kept: set[tuple[int, int]]) -> None:
        self.freed[number] = high
        held = self.held[number]
        for row in range(low, high):
            if (number, row) not in kept:
                self.live -= held[row]
                if self.record:
                    self.storages[self.where[number][row]].last = len(self.moves) - 1

    def _write(
        self,
        number: int,
        steps: tuple[int, int],
        rows: tuple[int, int],
        over: dict[int, tuple[int, int]],
        dying: list[tuple[int, int, int]],
        scratch: int,
    ) -> None:
        at = len(self.moves)
        for row in range(*rows):
            taken = over.get(row)
            if taken is None:
                self.where[number].append(len(self.storages))
                size = self.held[number][row] or self.size[number]
                self.storages.append(Storage(size, at, _END, self.counted[number]))
            else:
                self.where[number].append(self.where[taken[0]][taken[1]])
        self.moves.append(Move(number, *steps, self.live, scratch))


_END = 1 << 60
"""The last move of what is never let go."""
