"""Rows: the unit in which a map is streamed, and what an operation must be able to say to be streamed by it.

A tensor has rows if one of its axes runs down the image: axis 2 of (N, C, H, W), axis 1 of (N, H, W, C), and axis 1 of
tokens (N, H·W, C), where a row is W entries wide. An operation works by rows if it can compute any band of its result's
rows from a band of each operand's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

Shape = Sequence[int]


@dataclass(frozen=True)
class Rows:
    """Where a tensor's rows are.

    Attributes:
        axis: the dimension that runs down the image.
        count: rows.
        unit: entries of that dimension that make a row.
    """

    axis: int
    count: int
    unit: int = 1

    def band(self, value: Tensor, start: int, stop: int) -> Tensor:
        """The rows from `start` to `stop` of a tensor whose first row is row 0; a view."""
        return value.narrow(self.axis, start * self.unit, (stop - start) * self.unit)

    def __str__(self) -> str:
        return f"{self.count} rows along axis {self.axis}"


class NotByRows(Exception):  # noqa: N818 - a verdict, not an error
    """An operation can't be computed by rows; says why, as the rest of a sentence that begins with its name."""


@dataclass(frozen=True)
class Reach:
    """Which of an operand's rows each row of a result reads: those from `first[r]` to `last[r]`, that one excluded.

    Both never decrease with r.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]

    @classmethod
    def same(cls, count: int) -> Reach:
        """Row r reads row r."""
        return cls(tuple(range(count)), tuple(range(1, count + 1)))

    @classmethod
    def whole(cls, count: int, operand: int) -> Reach:
        """Every one of `count` rows reads all of the operand's."""
        return cls((0,) * count, (operand,) * count)

    @classmethod
    def windows(cls, count: int, operand: int, *, kernel: int, stride: int, padding: int, dilation: int = 1) -> Reach:
        """Row r reads what lies on the map of a window that starts at r·stride − padding."""
        span = dilation * (kernel - 1) + 1
        starts = [r * stride - padding for r in range(count)]
        if any(start + span <= 0 or start >= operand for start in starts):
            raise NotByRows("has windows beside the map")
        return cls(
            tuple(min(max(start, 0), operand) for start in starts),
            tuple(min(max(start + span, 0), operand) for start in starts),
        )

    def shifted(self, rows: int) -> Reach:
        """The same, of a map of which the operand is a part that starts at row `rows`."""
        return Reach(tuple(r + rows for r in self.first), tuple(r + rows for r in self.last))


Compute = Callable[[Sequence[Any], Mapping[str, Any], int, int], Any]


@dataclass(frozen=True)
class ByRows:
    """An operation that works by rows.

    Attributes:
        rows: of its result.
        reach: what each row reads, for each operand that has rows; other operands are read whole.
        compute: given the call's arguments with bands (or whole tensors) in place of operands, and the first and
            last row wanted (the last excluded), these rows of the result.
    """

    rows: Rows
    reach: Mapping[fx.Node, Reach]
    compute: Compute


@dataclass(frozen=True)
class Summing:
    """An operation that takes in an operand's rows one after another and has its result when it has seen them all.

    Attributes:
        operand: whose rows.
        total: the sum over a band of rows: given the call's arguments with the band in place of the operand.
        finish: the result, of the sum of all totals.
    """

    operand: fx.Node
    total: Callable[[Sequence[Any], Mapping[str, Any]], Any]
    finish: Callable[[Any], Any]


def shape_of(node: Any) -> Shape:
    """The planned shape of a node's value."""
    return tuple(node.meta["value"].shape)


def is_tensor(node: Any) -> bool:
    """Whether an argument is a node with a tensor for a value."""
    return isinstance(node, fx.Node) and isinstance(node.meta.get("value"), Tensor)


def operands(node: fx.Node) -> list[fx.Node]:
    """The tensors that a node reads, through what splits them."""
    found: list[fx.Node] = []
    for source in node.all_input_nodes:
        found += [source] if is_tensor(source) else operands(source)
    return found


def bind(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """A call's arguments by their names."""
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """A size for rows and columns."""
    if isinstance(value, int):
        return value, value
    values = tuple(value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])
