"""What a schedule is made of: regions, moves and storages."""

from __future__ import annotations

from dataclasses import dataclass

_RATE = 150_000
"""Steps of a search that a processor core takes in a second, about."""


@dataclass
class Clock:
    """The time of a search, told by its steps: another machine, or a busy one, finds the same in the same time.

    Attributes:
        steps: that were taken.
    """

    steps: int = 0

    @property
    def seconds(self) -> float:
        """What the steps take, about."""
        return self.steps / _RATE


@dataclass(frozen=True)
class Region:
    """Operations that are computed together.

    Attributes:
        start, stop: their places in the order of operations; `stop` is the first that isn't of the region.
        bands: into how many bands each of their maps is cut; 1 computes each operation at once.
    """

    start: int
    stop: int
    bands: int = 1


@dataclass(frozen=True)
class Move:
    """One step of a schedule: an operation computes some of its rows.

    Attributes:
        operation: its number.
        start, stop: the rows, or, of a running sum, the operand's rows that it takes in.
        live: bytes of all storages that are held meanwhile.
        scratch: bytes that the operation takes besides.
        freed: operations of whose results less is needed afterwards, and the first row of each that still is.
    """

    operation: int
    start: int
    stop: int
    live: int
    scratch: int
    freed: tuple[tuple[int, int], ...] = ()

    @property
    def total(self) -> int:
        """Bytes held meanwhile."""
        return self.live + self.scratch


@dataclass
class Storage:
    """A piece of memory that holds rows of one operation's result, and then perhaps of another's.

    Attributes:
        size: in bytes.
        first, last: the moves between which it is held, both included.
        counted: whether it counts under the assumptions.
    """

    size: int
    first: int
    last: int
    counted: bool = True
