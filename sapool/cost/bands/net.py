"""What there is to compute in bands: a runtime's operators, the tensors between them, and which rows they read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache


@dataclass(frozen=True)
class Window:
    """Which rows of an operand a row of a result reads.

    Attributes:
        kernel: rows from the first tap to the last.
        stride: from one window to the next.
        same: padded by the rule SAME, as little as ⌈H/s⌋ results need and the larger half behind; else not at all.
    """

    kernel: int = 1
    stride: int = 1
    same: bool = False

    def count(self, size: int) -> int:
        """The rows of a result of so many rows."""
        return -(-size // self.stride) if self.same else (size - self.kernel) // self.stride + 1

    def before(self, size: int) -> int:
        """The rows of padding above so many rows."""
        return max((self.count(size) - 1) * self.stride + self.kernel - size, 0) // 2 if self.same else 0

    def read(self, size: int, first: int, last: int) -> tuple[int, int]:
        """Of a map of so many rows, those that the windows `first` to `last` (excluded) lie on."""
        start = first * self.stride - self.before(size)
        end = (last - 1) * self.stride - self.before(size) + self.kernel
        return max(start, 0), min(end, size)


EACH = Window()
"""Row r reads row r."""


@dataclass(frozen=True)
class Part:
    """Rows of a map, those from `first` to `last` (excluded), of which some may be wrong.

    A window that reads beyond a band finds zeros there, as beyond the map: what it makes is carried along, and cut off.

    Attributes:
        right: the first of the rows that are right, and the first behind them.
    """

    first: int
    last: int
    right: tuple[int, int]

    def covers(self, first: int, last: int) -> bool:
        """Whether such rows are in it, and right."""
        return self.right[0] <= first and last <= self.right[1]


@lru_cache(1 << 16)
def made(window: Window, size: int, part: Part) -> Part | None:
    """What a window operation makes of a part of a map of so many rows; None where its rows fall beside the map's."""
    rows = part.last - part.first
    shift = part.first - window.before(rows) + window.before(size)
    if rows < (1 if window.same else window.kernel) or shift % window.stride:
        return None
    first = shift // window.stride
    last = first + window.count(rows)
    right = [row for row in range(first, min(last, window.count(size))) if _is_right(window, size, part, row)]
    return Part(first, last, (right[0], right[-1] + 1)) if first >= 0 and right else None


def _is_right(window: Window, size: int, part: Part, row: int) -> bool:
    first, last = window.read(size, row, row + 1)
    return part.covers(first, last)


@lru_cache(1 << 16)
def wanted(window: Window, size: int, first: int, last: int) -> tuple[int, int] | None:
    """The fewest rows of a map of so many of which an operation makes such rows; None where there are none."""
    start, end = window.read(size, first, last)
    room = range(window.stride + 1)
    tried = sorted((up + down, up, down) for up in room for down in room if up <= start and end + down <= size)
    for _, up, down in tried:
        low, high = start - up, end + down
        result = made(window, size, Part(low, high, (low, high)))
        if result is not None and result.covers(first, last):
            return low, high
    return None


@dataclass(frozen=True)
class Value:
    """A value that isn't a constant.

    Attributes:
        size: in bytes.
        rows: of a map (1, H, W, C) its H; 0 of anything else.
    """

    size: int
    rows: int = 0


@dataclass(frozen=True)
class Operator:
    """Something that the runtime computes.

    Attributes:
        name: of it, for people.
        kind: what it computes.
        reads: tensors by their numbers, constants left out.
        makes: the same.
        window: how rows of its result read rows of `reads[0]`, or, if it is `EACH`, of every map of as many rows; None
            where it can't be computed in bands.
        channels: numbers of its result's that are requantized each in its own way.
        scratch: bytes that it takes while it runs.
    """

    name: str
    kind: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    window: Window | None = None
    channels: int = 0
    scratch: tuple[int, ...] = ()


@dataclass(frozen=True)
class Net:
    """Operators in the order in which they run; tensors have their places in `tensors` for numbers."""

    tensors: tuple[Value, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @cached_property
    def last(self) -> dict[int, int]:
        """The place of the last operator that reads each tensor; behind the last one for outputs."""
        places = {number: at for at, operator in enumerate(self.operators) for number in operator.reads}
        return places | dict.fromkeys(self.outputs, len(self.operators))

    def results(self, start: int, stop: int) -> tuple[int, ...]:
        """The tensors that operators from place `start` to `stop` (excluded) make for others."""
        made = (number for operator in self.operators[start:stop] for number in operator.makes)
        return tuple(number for number in made if self.last.get(number, -1) >= stop)

    def banded(self, operator: Operator) -> tuple[int, ...]:
        """The operands of an operator that it reads band by band, where it is computed so."""
        result = self.tensors[operator.makes[0]]
        if operator.window is None or len(operator.makes) != 1 or result.rows < 2:
            return ()
        if operator.window != EACH:
            return operator.reads[:1] if self.tensors[operator.reads[0]].rows else ()
        return tuple(number for number in operator.reads if self.tensors[number].rows == result.rows)
