"""A branch and bound for one arena that takes as many steps on a busy machine as on an idle one."""

from __future__ import annotations

from collections.abc import Sequence

_ORDERS = ("WAT", "TAW", "TWA")
"""In which blocks are placed: by duration, area, or the most that is held while they are there (omnimalloc's own)."""
_NODES, _SEARCHES = 3_000, 5
"""Nodes of a search, and searches, each below what the one before found. What isn't found within so many nodes is
mostly not found within ten times as many either."""

Block = tuple[int, int, int]
"""A size in bytes, and the first and last place at which it is needed."""


def search(blocks: Sequence[Block], peak: int) -> list[int] | None:
    """Offsets for blocks that take less than `peak` bytes together, or None where none are found.

    omnimalloc's own allocator has a limit of time, so what it returns is another thing under load; the solver below it
    counts nodes.
    """
    # Loading it takes longer than most packings, and most never get here.
    from omnimalloc import Allocation  # noqa: PLC0415
    from omnimalloc._cpp import Partition, try_solve_many  # noqa: PLC0415

    whole = Partition.from_allocations(
        tuple(Allocation(i, s, first, last + 1) for i, (s, first, last) in enumerate(blocks))
    )
    orders = [whole.reorder(order) for order in _ORDERS]
    offsets = None
    for _ in range(_SEARCHES):
        if peak <= whole.lower_bound:
            break
        found = try_solve_many(
            [order.with_bound(peak) for order in orders],
            peak,
            _NODES,
            canonical=True,
            dominance=True,
            floor_inference=True,
            monotonic_floor=True,
            decompose=True,
            timeout=None,
            num_threads=1,
        )
        if found is None:
            break
        peak, offsets = found.peak, {int(placed.id): placed.offset or 0 for placed in found.allocations}
    return None if offsets is None else [offsets[i] for i in range(len(blocks))]
