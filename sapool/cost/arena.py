"""One buffer for all activations: offsets as embedded runtimes plan them."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def arena_size(buffers: list[Buffer]) -> tuple[int, list[Buffer]]:
    """The bytes of an arena and its buffers with their offsets.

    Greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, algorithm 1;
    also TensorFlow Lite Micro's planner): the largest buffer first, each at the lowest offset that is free during its
    whole life.
    """
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.first)):
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset or 0):
            assert other.offset is not None
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if offset + buffer.size <= other.offset:
                break
            offset = max(offset, _aligned(other.offset + other.size))
        placed.append(replace(buffer, offset=offset))
    return max((_aligned((b.offset or 0) + b.size) for b in placed), default=0), placed


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
