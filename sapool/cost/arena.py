"""One buffer for all activations: offsets as embedded runtimes plan them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from omnimalloc import Allocation, allocate
from omnimalloc.allocators import SupermallocAllocator

ALIGNMENT = 16
"""Bytes; what TensorFlow Lite Micro aligns its buffers to."""


@dataclass(frozen=True)
class Buffer:
    """A storage in the arena.

    Attributes:
        name: of the storage.
        size: in bytes.
        first, last: places of the operations between which it is needed, both included.
        offset: in bytes, a multiple of `ALIGNMENT`; None until it is placed.
    """

    name: str
    size: int
    first: int
    last: int
    offset: int | None = None


def arena_size(buffers: Sequence[Buffer], *, seconds: float = 1.0) -> tuple[int, list[Buffer]]:
    """The bytes of an arena and its buffers with their offsets, in the order in which they were given.

    The best of a portfolio: greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020, algorithm 1; also TensorFlow Lite Micro's planner), then omnimalloc's greedy and best-fit ones,
    then its branch and bound. The first that reaches `lower_bound` ends it.

    Args:
        buffers: with different names.
        seconds: the time limit of the branch and bound.
    """
    best, bound = _bytes(offsets := _by_size(buffers)), lower_bound(buffers)
    for other in _portfolio(buffers, seconds) if best > bound else ():
        if _bytes(other) < best:
            best, offsets = _bytes(other), other
        if best <= bound:
            break
    return best, [replace(buffer, offset=offset) for (buffer, offset) in offsets]


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Bytes that no arena can do with less than: the most that is needed at once, each buffer aligned."""
    changes: dict[int, int] = {}
    for buffer in buffers:
        changes[buffer.first] = changes.get(buffer.first, 0) + _aligned(buffer.size)
        changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - _aligned(buffer.size)
    held = most = 0
    for place in sorted(changes):
        held += changes[place]
        most = max(most, held)
    return most


_Placed = list[tuple[Buffer, int]]


def _by_size(buffers: Sequence[Buffer]) -> _Placed:
    """The largest buffer first, each at the lowest offset that is free during its whole life."""
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first))
    # omnimalloc's plain greedy allocator does just that with buffers in the order in which it gets them.
    return _allocated(buffers, "greedy", order)


def _portfolio(buffers: Sequence[Buffer], seconds: float) -> Iterator[_Placed]:
    for allocator in ("omni", "best_fit", SupermallocAllocator(timeout=seconds, num_threads=1)):
        yield _allocated(buffers, allocator, range(len(buffers)))


def _allocated(buffers: Sequence[Buffer], allocator: str | SupermallocAllocator, order: Sequence[int]) -> _Placed:
    wanted = [
        Allocation(i, _aligned(buffers[i].size), buffers[i].first, buffers[i].last + 1)
        for i in order
        if buffers[i].size
    ]  # fmt: skip
    offsets = {int(placed.id): placed.offset or 0 for placed in allocate(wanted, allocator)} if wanted else {}
    return [(buffer, offsets.get(i, 0)) for i, buffer in enumerate(buffers)]


def _bytes(placed: _Placed) -> int:
    return max((_aligned(offset + buffer.size) for buffer, offset in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
