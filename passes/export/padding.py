"""Padding that costs nothing: windows laid so that what runtimes pad by themselves is what the network pads.

torch pads a map alike on both sides. TensorFlow's convolutions pad nothing (VALID), or by the rule SAME: as little as
⌈H/s⌋ results need, and where that is odd the larger half behind the map. Where the two differ, a converter writes an
operation of its own that copies the whole map into a larger one. A kernel with rows and columns of zeros at its edges
computes the same, and its windows are others: often they can be had without that copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from sapool.ir.plan import Plan
from sapool.passes.record import Log

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


def fit_padding(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Gives convolutions the kernel with which their runtime's own padding is theirs. Exact.

    The graph is a flat one of ATen operations (`torch.export`), with `val` in each node's `meta`.
    """
    for node in list(module.graph.nodes):
        if node.target not in CONVOLUTIONS:
            continue
        windows = windows_of(node)
        if windows is None or not isinstance(node.args[1], fx.Node) or node.args[1].op != "get_attr":
            log.refused("", node.name, "its kernel isn't a weight")
            continue
        if windows.free:
            continue
        fitted = windows.fitted()
        if fitted is None:
            log.refused("", node.name, "no kernel with zeros at its edges makes its padding the runtime's")
            continue
        wider, zeros = fitted
        lay(module, node, wider, zeros)
        before, after = (f"{w.rows.kernel}x{w.columns.kernel}" for w in (windows, wider))
        log.rewrote("", node.name, f"{before} kernel, padded apart", f"{after} kernel")


def extra_macs(module: fx.GraphModule, *, mirrored: bool) -> int:
    """Multiply-accumulates that `fit_padding` would add to a graph; a map that has to be copied counts as its elements
    a thousand times, which no kernel costs.
    """
    total = 0
    for node in module.graph.nodes:
        windows = windows_of(node)
        if windows is None:
            continue
        windows = windows.mirrored() if mirrored else windows
        if windows.free:
            continue
        copied = 1000 * node.args[0].meta["val"].numel()
        if node.target in CONVOLUTIONS:
            fitted = windows.fitted()
            weight = node.args[1].meta["val"]
            outputs = prod(node.meta["val"].shape[2:])
            each = weight.numel() // prod(weight.shape[2:]) * outputs
            total += each * (fitted[0].taps - windows.taps) if fitted is not None else copied
        else:
            total += copied
    return total


def windows_of(node: fx.Node) -> Windows | None:
    """The windows of a convolution or of a max-pooling, padding before it taken in; None for other nodes."""
    x: Any = node.args[0] if node.args else None
    if node.target in CONVOLUTIONS:
        assert isinstance(node.args[1], fx.Node)
        kernel = tuple(node.args[1].meta["val"].shape[2:])
        stride, padding, dilation = (
            _pair(_argument(node, place, default)) for place, default in ((3, 1), (4, 0), (5, 1))
        )
        if _argument(node, 4, 0) == "same":
            padding = tuple((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
        elif _argument(node, 4, 0) == "valid":
            padding = (0, 0)
        zero = 0.0
    elif node.target is torch.ops.aten.max_pool2d.default:
        kernel = _pair(node.args[1])
        stride = _pair(_argument(node, 2, None) or kernel)
        padding, dilation = _pair(_argument(node, 3, 0)), _pair(_argument(node, 4, 1))
        zero = -float("inf")
    else:
        return None
    around = _around(x, zero) if not any(padding) else None
    sizes, before = x.meta["val"].shape[2:], list(padding)
    if around is not None:
        sizes, before = x.args[0].meta["val"].shape[2:], [around[2], around[0]]
    counts = node.meta["val"].shape[2:]
    rows, columns = (
        Axis(int(sizes[i]), int(counts[i]), int(kernel[i]), dilation[i], stride[i], before[i]) for i in range(2)
    )
    return Windows(rows, columns)


def lay(module: fx.GraphModule, node: fx.Node, windows: Windows, zeros: tuple[int, int, int, int]) -> None:
    """Makes a convolution, or a max-pooling, take such windows of the map before its padding."""
    graph, x = module.graph, node.args[0]
    assert isinstance(x, fx.Node)
    pooling = node.target not in CONVOLUTIONS
    value = -float("inf") if pooling else 0.0
    if x.target is PAD and _around(x, value) is not None:
        x = x.args[0]
        assert isinstance(x, fx.Node)
    rows, columns = windows.rows, windows.columns
    sides = [columns.before, max(columns.after, 0), rows.before, max(rows.after, 0)]
    with graph.inserting_before(node):
        if any(sides):
            padded = graph.call_function(PAD, (x, sides, value))
            padded.meta["val"] = F.pad(x.meta["val"], sides)
            x = padded
        if pooling:
            arguments = (x, *node.args[1:3], [0, 0], *node.args[4:])
            node.args = arguments if len(node.args) > 3 else (x, *node.args[1:])
            return
        weight = node.args[1]
        assert isinstance(weight, fx.Node)
        if any(zeros):
            weight = constant(module, node, F.pad(_tensor(module, weight), zeros), "wider")
        bias = _argument(node, 2, None)
        laid = graph.call_function(
            CONVOLUTIONS[0],
            (
                x,
                weight,
                bias,
                [rows.stride, columns.stride],
                [0, 0],
                [rows.dilation, columns.dilation],
                _argument(node, 6, 1),
            ),
        )
    laid.meta = {"was": node.name} | node.meta
    node.replace_all_uses_with(laid)
    graph.erase_node(node)


def constant(module: fx.GraphModule, node: fx.Node, value: Tensor, name: str) -> fx.Node:
    """A new constant of a graph, named after the node that needs it."""
    name = f"{name}_{node.name}"
    module.register_buffer(name, value)
    with module.graph.inserting_before(node):
        made = module.graph.get_attr(name)
    made.meta["val"] = value
    return made


def weights_of(module: fx.GraphModule, node: fx.Node) -> Iterator[tuple[int, fx.Node, Tensor]]:
    """The constants among a node's arguments: their places, their nodes and their values."""
    for place, argument in enumerate(node.args):
        if isinstance(argument, fx.Node) and argument.op == "get_attr":
            yield place, argument, _tensor(module, argument)


def _tensor(module: fx.GraphModule, node: fx.Node) -> Tensor:
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(module.get_submodule(owner), name)
    assert isinstance(value, Tensor)
    return value.detach()


def _around(node: Any, value: float) -> list[int] | None:
    """Left, right, top, bottom of a padding of the last two axes with such a value; None where a node isn't one."""
    if not isinstance(node, fx.Node) or node.target is not PAD:
        return None
    sides: Any = node.args[1]
    filled = node.args[2] if len(node.args) > 2 else 0.0
    return list(sides) if len(sides) == 4 and filled == value and min(sides) >= 0 else None


def _argument(node: fx.Node, place: int, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else default


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        return (0, 0)
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return int(first), int(rest[0] if rest else first)
