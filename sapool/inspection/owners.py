"""Buffers in an arena, and the nodes whose results lie in them. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapool.cost.assumptions import Assumptions
    from sapool.cost.memory import Step


@dataclass(frozen=True)
class Placed:
    """A buffer in the arena.

    Attributes:
        name: of the storage.
        size, offset: in bytes.
        first, last: the steps between which it is held, both included.
        writers, readers: nodes of the model, by name, whose results lie in it, and that read it.
    """

    name: str
    size: int
    offset: int
    first: int
    last: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Arena:
    """What a device holds while a network runs on an image.

    Attributes:
        title: how it is run: `plain`, or `streamed` and into what.
        size: bytes of the arena.
        peak: bytes that are held at once, at most.
        steps: what runs, in order, and the bytes held meanwhile.
        buffers: what lies in it.
        assumptions: under which it was counted.
    """

    title: str
    size: int
    peak: int
    steps: tuple[Step, ...]
    buffers: tuple[Placed, ...]
    assumptions: Assumptions


def owners(names: Iterable[str], buffers: Iterable[Placed], feeds: Mapping[str, str]) -> dict[str, str]:
    """For each node of the model, the node whose buffers are also its own.

    Itself where it has buffers. What was folded into the operation before it, or is a view, has none: there it is the
    nearest node before it that has some.

    Args:
        names: of the model's nodes, in order of execution.
        buffers: what is held.
        feeds: the first operand of each node that has one, by name.
    """
    has = {part for buffer in buffers for part in buffer.writers}
    found: dict[str, str] = {}
    for name in names:
        source = feeds.get(name, "")
        found[name] = name if name in has else found.get(source, "")
    return found
