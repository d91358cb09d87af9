"""One buffer for all activations: offsets as embedded runtimes plan them."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

from sapool.cost.packing import search

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


def arena_size(buffers: Sequence[Buffer]) -> tuple[int, list[Buffer]]:
    """The bytes of an arena and its buffers with their offsets, in the order in which they were given.

    The best of a portfolio: greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020, algorithm 1; also TensorFlow Lite Micro's planner), then omnimalloc's greedy and best-fit ones,
    then a branch and bound of so many steps. The first that reaches `lower_bound` ends it. None of them looks at a
    clock: the same buffers always have the same arena.

    Args:
        buffers: with different names.
    """
    offsets, bound = _by_size(buffers), lower_bound(buffers)
    best = _bytes(buffers, offsets)
    for attempt in (partial(_allocated, "omni"), partial(_allocated, "best_fit"), _searched):
        if best <= bound:
            break
        others = attempt(buffers, best)
        if others is not None and (size := _bytes(buffers, others)) < best:
            best, offsets = size, others
    return best, [replace(buffer, offset=offset) for buffer, offset in zip(buffers, offsets, strict=True)]


def greedy_by_size(buffers: Sequence[Buffer]) -> int:
    """The bytes of the arena that TensorFlow Lite Micro makes, where buffers that have an offset keep it.

    The others come by size, the largest first, and of two of a size the last.
    """
    given = [i for i, buffer in enumerate(buffers) if buffer.offset is not None]
    others = [i for i, buffer in enumerate(buffers) if buffer.offset is None]
    return _bytes(buffers, _placed(buffers, [*given, *sorted(others, key=lambda i: (-buffers[i].size, -i))]))


def lower_bound(buffers: Sequence[Buffer], alignment: int = ALIGNMENT) -> int:
    """Bytes that no arena can do with less than: the most that is needed at once, each buffer aligned.

    With an alignment of 1 it is the peak.
    """
    changes: dict[int, int] = {}
    for buffer in buffers:
        size = _aligned(buffer.size, alignment)
        changes[buffer.first] = changes.get(buffer.first, 0) + size
        changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - size
    held = most = 0
    for place in sorted(changes):
        held += changes[place]
        most = max(most, held)
    return most


def _by_size(buffers: Sequence[Buffer]) -> list[int]:
    """The largest buffer first, each at the lowest offset that is free during its whole life."""
    return _placed(buffers, sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first)))


def _placed(buffers: Sequence[Buffer], order: Sequence[int]) -> list[int]:
    """Each buffer, in that order, at its own offset or else at the lowest that is free during its whole life."""
    offsets = [0] * len(buffers)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last: by offset
    for i in order:
        first, last, size, lowest = buffers[i].first, buffers[i].last, buffers[i].size, 0
        for offset, end, begins, ends in placed:
            if ends < first or last < begins:
                continue
            if lowest + size <= offset:
                break
            lowest = max(lowest, _aligned(end))
        given = buffers[i].offset
        offsets[i] = lowest = lowest if given is None else given
        insort(placed, (lowest, lowest + size, first, last))
    return offsets


def _allocated(allocator: str, buffers: Sequence[Buffer], best: int) -> list[int]:
    """What one of omnimalloc's allocators makes, whatever was best before."""
    # Loading it takes longer than most packings, and most never get here.
    from omnimalloc import Allocation, allocate  # noqa: PLC0415

    wanted = [
        Allocation(i, _aligned(buffer.size), buffer.first, buffer.last + 1)
        for i, buffer in enumerate(buffers)
        if buffer.size
    ]
    offsets = {int(placed.id): placed.offset or 0 for placed in allocate(wanted, allocator)}
    return [offsets.get(i, 0) for i in range(len(buffers))]


def _searched(buffers: Sequence[Buffer], best: int) -> list[int] | None:
    """What a search below the best size finds. Buffers that come and go together are one block of it, side by side."""
    together: dict[tuple[int, int], list[int]] = {}
    for i, buffer in enumerate(buffers):
        if buffer.size:
            together.setdefault((buffer.first, buffer.last), []).append(i)
    sizes = [_aligned(buffer.size) for buffer in buffers]
    places = search([(sum(sizes[i] for i in group), *life) for life, group in together.items()], best)
    if places is None:
        return None
    offsets = [0] * len(buffers)
    for place, group in zip(places, together.values(), strict=True):
        for i, offset in zip(group, accumulate((sizes[i] for i in group), initial=place), strict=False):
            offsets[i] = offset
    return offsets


def _bytes(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    ends = (_aligned(offset + buffer.size) for buffer, offset in zip(buffers, offsets, strict=True))
    return max(ends, default=0)


def _aligned(size: int, alignment: int = ALIGNMENT) -> int:
    return -(-size // alignment) * alignment
