"""Windows of convolutions and max-poolings over a map, and which of them runtimes lay by themselves.

torch pads a map alike on both sides. TensorFlow's convolutions pad nothing (VALID), or by the rule SAME: as little as
⌈H/s⌋ results need, and where that is odd the larger half behind the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.conv2d.padding)
PAD = torch.ops.aten.constant_pad_nd.default
_WIDEST = 3
"""Rows of zeros that are tried on either side; no kernel of a catalogue's network needs more."""


@dataclass(frozen=True)
class Axis:
    """Windows along one axis of a map.

    Attributes:
        size: of the map.
        count: windows.
        kernel: taps, and `dilation` from one to the next.
        stride: from one window to the next.
        before: padding that the first window starts in; negative where it starts inside the map.
    """

    size: int
    count: int
    kernel: int
    dilation: int
    stride: int
    before: int

    @property
    def reach(self) -> int:
        """Pixels from the first tap of a window to its last, both included."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def after(self) -> int:
        """Padding that the last window ends in; negative where it ends inside the map."""
        return (self.count - 1) * self.stride + self.reach - self.size - self.before

    @property
    def valid(self) -> bool:
        """Whether these are the windows that a runtime takes without padding."""
        return (
            self.before == 0 and self.size >= self.reach and (self.size - self.reach) // self.stride + 1 == self.count
        )

    @property
    def same(self) -> bool:
        """Whether these are the windows of the rule SAME."""
        least = max((self.count - 1) * self.stride + self.reach - self.size, 0)
        return self.count == -(-self.size // self.stride) and self.before == least // 2

    def wider(self, front: int, back: int) -> Axis:
        """The same windows with taps of zeros at their ends."""
        before = self.before + front * self.dilation
        return Axis(self.size, self.count, self.kernel + front + back, self.dilation, self.stride, before)

    def mirrored(self) -> Axis:
        """The same windows seen from the other end of the map."""
        return Axis(self.size, self.count, self.kernel, self.dilation, self.stride, self.after)


@dataclass(frozen=True)
class Windows:
    """The windows of a convolution or a pooling over a map: rows, then columns."""

    rows: Axis
    columns: Axis

    @property
    def free(self) -> bool:
        """Whether a runtime lays them by itself."""
        return (self.rows.valid and self.columns.valid) or (self.rows.same and self.columns.same)

    @property
    def taps(self) -> int:
        return self.rows.kernel * self.columns.kernel

    def mirrored(self) -> Windows:
        """The same windows on the map turned by 180 degrees."""
        return Windows(self.rows.mirrored(), self.columns.mirrored())

    def fitted(self) -> tuple[Windows, tuple[int, int, int, int]] | None:
        """The smallest that a runtime lays by itself, and the zeros added: left, right, top, bottom; or None."""
        found = []
        for rule in ("valid", "same"):
            rows, columns = (_widened(axis, rule) for axis in (self.rows, self.columns))
            if rows is not None and columns is not None:
                (top, bottom), (left, right) = rows, columns
                wider = Windows(self.rows.wider(top, bottom), self.columns.wider(left, right))
                found.append((wider, (left, right, top, bottom)))
        return min(found, key=lambda pair: pair[0].taps, default=None)


def _widened(axis: Axis, rule: str) -> tuple[int, int] | None:
    """The fewest taps of zeros, in front and behind, with which an axis follows a rule."""
    tried = sorted(((f, b) for f in range(_WIDEST + 1) for b in range(_WIDEST + 1)), key=lambda pair: (sum(pair), pair))
    return next(((f, b) for f, b in tried if getattr(axis.wider(f, b), rule)), None)


def windows_of(node: fx.Node) -> Windows | None:
    """The windows of a convolution or of a max-pooling, padding before it taken in; None for other nodes."""
    own = _own(node)
    if own is None:
        return None
    x: Any = node.args[0]
    kernel, stride, padding, dilation = own
    around = _around(x, border_of(node)) if not any(padding) else None
    sizes, before = x.meta["val"].shape[2:], list(padding)
    if around is not None:
        sizes, before = x.args[0].meta["val"].shape[2:], [around[2], around[0]]
    counts = node.meta["val"].shape[2:]
    rows, columns = (
        Axis(int(sizes[i]), int(counts[i]), int(kernel[i]), dilation[i], stride[i], before[i]) for i in range(2)
    )
    return Windows(rows, columns)


def takes_in(node: fx.Node) -> bool:
    """Whether the windows of a node are those of its map before the padding that it reads."""
    own = _own(node)
    return own is not None and not any(own[2]) and _around(node.args[0], border_of(node)) is not None


def _own(node: fx.Node) -> tuple[tuple[int, int], ...] | None:
    """Kernel, stride, padding and dilation of a convolution or of a max-pooling, rows and columns; None of others."""
    if node.target in CONVOLUTIONS:
        assert isinstance(node.args[1], fx.Node)
        height, width = (int(side) for side in node.args[1].meta["val"].shape[2:])
        stride, padding, dilation = (
            pair(argument_of(node, place, default)) for place, default in ((3, 1), (4, 0), (5, 1))
        )
        if argument_of(node, 4, 0) == "same":
            padding = (height - 1) * dilation[0] // 2, (width - 1) * dilation[1] // 2
        elif argument_of(node, 4, 0) == "valid":
            padding = (0, 0)
        return (height, width), stride, padding, dilation
    if node.target is torch.ops.aten.max_pool2d.default:
        kernel = pair(node.args[1])
        stride = pair(argument_of(node, 2, None) or kernel)
        return kernel, stride, pair(argument_of(node, 3, 0)), pair(argument_of(node, 4, 1))
    return None


def border_of(node: fx.Node) -> float:
    """What the windows of a node see beyond a map."""
    return 0.0 if node.target in CONVOLUTIONS else -float("inf")


def _around(node: Any, value: float) -> list[int] | None:
    """Left, right, top, bottom of a padding of the last two axes with such a value; None where a node isn't one."""
    if not isinstance(node, fx.Node) or node.target is not PAD:
        return None
    sides: Any = node.args[1]
    filled = node.args[2] if len(node.args) > 2 else 0.0
    return list(sides) if len(sides) == 4 and filled == value and min(sides) >= 0 else None


def argument_of(node: fx.Node, place: int, default: Any) -> Any:
    """An argument by its place, or its default."""
    return node.args[place] if len(node.args) > place else default


def pair(value: Any) -> tuple[int, int]:
    """What is given of both axes, or of each: rows, then columns."""
    if isinstance(value, str):
        return (0, 0)
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return int(first), int(rest[0] if rest else first)
