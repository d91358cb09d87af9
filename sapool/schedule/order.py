"""The order of operations with the lowest peak, where each is computed at once.

A best-first search over sets of computed operations (the bottleneck shortest path through them): the set that was
reached with the lowest peak is extended first, so the first complete set has the lowest peak there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from sapool.cost.assumptions import BYTES, Assumptions
from sapool.schedule.moves import Clock
from sapool.schedule.operations import Network

_MOST_SETS = 200_000
"""Sets that are kept in mind; some hundred bytes each."""


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        order: numbers of the operations, the input's first.
        peak: bytes.
        proved: whether the search came to its end, so that no order has a lower peak.
    """

    order: tuple[int, ...]
    peak: int
    proved: bool


def best_order(net: Network, assumptions: Assumptions, *, seconds: float = 1.0, clock: Clock | None = None) -> Found:
    """The order with the lowest peak that is found within a time limit; that of the graph where none is lower.

    Args:
        net: the operations.
        assumptions: about the device.
        seconds: the limit, as the clock tells it.
        clock: goes on.
    """
    return _Search(net, assumptions, clock or Clock()).run(seconds)


class _Search:
    def __init__(self, net: Network, assumptions: Assumptions, clock: Clock) -> None:
        self.net, self.clock, width = net, clock, BYTES[assumptions.dtype]
        operations = net.operations
        self.size = [operation.rows * operation.row_size * width for operation in operations]
        self.scratch = [(o.scratch[0] + o.scratch[1] * o.steps) * width for o in operations]
        if not assumptions.io:
            for number in (0, *net.outputs):
                self.size[number] = 0
        self.reads = [tuple(operation.reads) for operation in operations]
        self.needs = [sum(1 << source for source in reads) for reads in self.reads]
        self.users = [0] * len(operations)
        self.next: list[list[int]] = [[] for _ in operations]
        for number, reads in enumerate(self.reads):
            for source in reads:
                self.users[source] |= 1 << number
                self.next[source].append(number)
        for number in net.outputs:
            self.users[number] |= 1 << len(operations)  # a reader that never comes

    def step(self, done: int, live: int, number: int) -> tuple[int, int]:
        """The bytes held while an operation is computed, and those afterwards."""
        self.clock.steps += 1
        after, freed, over = done | 1 << number, 0, 0
        size = self.size[number]
        for source in self.reads[number]:
            if self.users[source] & ~after == 0:
                freed += self.size[source]
                if source in self.net.operations[number].over and self.size[source] >= size:
                    over = size
        kept = size if self.users[number] & ~after else 0
        return live + size - over + self.scratch[number], live + kept - freed

    def floor(self) -> int:
        """A peak that no order is below: some operation's operands and result."""
        highest = 0
        for number in range(1, len(self.reads)):
            operands = sum(self.size[source] for source in self.reads[number])
            over = max((self.size[number] for source in self.net.operations[number].over), default=0)
            highest = max(highest, operands + self.size[number] - over + self.scratch[number])
        return highest

    def follow(self, order: list[int]) -> int:
        """The peak of an order."""
        done, live, peak = 1, self.size[0], 0
        for number in order[1:]:
            total, live = self.step(done, live, number)
            done, peak = done | 1 << number, max(peak, total)
        return peak

    def run(self, seconds: float) -> Found:
        given = list(range(len(self.reads)))
        bound, floor = self.follow(given), self.floor()
        if bound <= floor or len(given) < 3:
            return Found(tuple(given), bound, proved=True)
        everything, deadline, ticket = (1 << len(given)) - 1, self.clock.seconds + seconds, count()
        ready = [n for n in self.next[0] if self.needs[n] & ~1 == 0]
        came: dict[int, tuple[int, tuple[int, ...]]] = {1: (0, (0,))}
        heap = [(floor, -1, next(ticket), 1, self.size[0], ready)]
        while heap:
            peak, _, _, done, live, ready = heappop(heap)
            if self.clock.seconds > deadline or len(came) > _MOST_SETS:
                return Found(tuple(given), bound, proved=False)
            path: list[int] = []
            done_, live, ready = self._free_moves(done, live, ready, peak, path)
            if path and done_ in came:
                continue
            if path:
                came[done_] = (done, tuple(path))
            if done_ == everything:
                return Found(self._order(came, done_), self.follow(list(self._order(came, done_))), proved=True)
            for number in ready:
                total, after = self.step(done_, live, number)
                now = done_ | 1 << number
                if total >= bound or now in came:
                    continue
                came[now] = (done_, (number,))
                rest = [n for n in ready if n != number]
                rest += [n for n in self.next[number] if self.needs[n] & ~now == 0]
                heappush(heap, (max(peak, total), -now.bit_count(), next(ticket), now, after, rest))
        return Found(tuple(given), bound, proved=True)

    def _free_moves(
        self, done: int, live: int, ready: list[int], peak: int, path: list[int]
    ) -> tuple[int, int, list[int]]:
        """Computes whatever neither raises the peak nor leaves more to hold: that can't be wrong at any time."""
        going = True
        while going:
            going = False
            for number in ready:
                total, after = self.step(done, live, number)
                if total <= peak and after <= live:
                    done, live, going = done | 1 << number, after, True
                    path.append(number)
                    ready = [n for n in ready if n != number]
                    ready += [n for n in self.next[number] if self.needs[n] & ~done == 0]
                    break
        return done, live, ready

    @staticmethod
    def _order(came: dict[int, tuple[int, tuple[int, ...]]], done: int) -> tuple[int, ...]:
        found: list[tuple[int, ...]] = []
        while done:
            done, path = came[done]
            found.append(path)
        return tuple(number for path in reversed(found) for number in path)
