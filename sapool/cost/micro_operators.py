"""The operators that a converter makes of a flat graph, and which rows they read.

It fuses activations into what stands before them, and layouts and free padding vanish. Tokens that it lays out more
than once are counted once, so the figure of the written file, `sapool.export.tflite.memory`, can be larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from torch import Tensor, fx

from sapool.cost.bands.net import EACH, Net, Operator, Value, Window
from sapool.cost.micro_estimates import mixes, requantized, word
from sapool.passes.export.windows import PAD, argument_of, pair, takes_in, windows_of

_VANISH = frozenset(("dropout", "permute", "transpose", "contiguous", "clone", "detach", "alias", "to", "expand"))
_FUSED = frozenset(("relu", "relu_", "hardtanh", "hardtanh_", "relu6"))
_FUSE = frozenset(("conv2d", "add", "add_", "linear", "avg_pool2d", "max_pool2d", "mul", "sub"))
_EACH = frozenset(
    (
        *("add", "add_", "sub", "mul", "div", "sigmoid", "relu", "relu_", "hardtanh", "hardtanh_", "relu6"),
        *("exp", "sqrt", "rsqrt", "tanh", "neg", "hardswish", "hardswish_", "silu", "silu_"),
    )
)
_MAPS = frozenset(
    (
        *("flip", "conv2d", "max_pool2d", "avg_pool2d", "constant_pad_nd"),
        *("reshape", "view", "upsample_nearest2d", "upsample_bilinear2d"),
    )
)
"""What makes maps, of which bands can be read, whether or not it can be computed in bands itself."""
_IN_FLOATS = frozenset(("exp", "sqrt", "leaky_relu", "leaky_relu_"))
"""What has no integers there, so that its map is converted before it and back behind it."""
_GATED = frozenset(("silu", "silu_"))
"""x·σ(x), which there are two operators, so that x waits for its gate."""
_SPLIT = frozenset(("split", "split_with_sizes", "chunk", "unbind"))
_SUMMED = frozenset(("adaptive_avg_pool2d", "mean", "sum"))


def operators_of(flat: fx.GraphModule, width: int) -> Net:
    """The operators of a flat graph with so many bytes a number: 1 for a file of int8, 4 for one of floats."""
    return _Fold(flat, width).net


class _Fold:
    def __init__(self, flat: fx.GraphModule, width: int) -> None:
        self.width = width
        self.lies: dict[fx.Node, int] = {}
        self.tensors: list[Value] = []
        self.operators: list[Operator] = []
        self.wide: dict[int, int] = {}
        inputs: list[int] = []
        outputs: tuple[int, ...] = ()
        for node in flat.graph.nodes:
            sources = [self.lies[source] for source in node.all_input_nodes if source in self.lies]
            if node.op == "output":
                outputs = tuple(sources)
            elif node.op == "placeholder":
                self.lies[node] = self._tensor(prod(node.meta["val"].shape) * width, _map_rows(node))
                inputs.append(self.lies[node])
            elif node.op != "call_function" or not sources:
                continue
            elif word(node) in _SPLIT:  # each part is sliced from the whole
                self.lies[node] = sources[0]
            elif not isinstance(node.meta.get("val"), Tensor):
                continue
            else:
                self.lies[node] = sources[0] if _vanishes(node) else self._add(node, sources)
        self.net = Net(tuple(self.tensors), tuple(self.operators), tuple(inputs), outputs)

    def _add(self, node: fx.Node, sources: list[int]) -> int:
        """What computes a node; the tensor of its result."""
        if (size := _padded(node)) is not None:
            sources = [self._padded_apart(node, sources[0], self.width * size), *sources[1:]]
        if self.width == 1 and mixes(node):
            sources = [sources[0], *(self._in_16_bits(node, number) for number in sources[1:])]
        window, channels = self._window(node, sources), requantized(node) if self.width == 1 else 0
        rows = _map_rows(node) if window is not None or word(node) in _MAPS else 0
        scratch = _scratch(node, self.width)
        if word(node) in _GATED:
            gate = self._tensor(prod(node.meta["val"].shape) * self.width, rows)
            self.operators.append(Operator(node.name, "sigmoid", tuple(sources), (gate,), window))
            sources = [*sources, gate]
        for kind, size in _results(node, self.width):
            result = self._tensor(size, rows)
            self.operators.append(Operator(node.name, kind, tuple(sources), (result,), window, channels, scratch))
            sources = [result]
        return sources[0]

    def _padded_apart(self, node: fx.Node, source: int, size: int) -> int:
        """A map in a larger one, of so many bytes, whose border is what the runtime wouldn't lay by itself."""
        padded = self._tensor(size, 0)
        self.operators.append(Operator(node.name, "constant_pad_nd", (source,), (padded,)))
        return padded

    def _tensor(self, size: int, rows: int) -> int:
        self.tensors.append(Value(size, rows))
        return len(self.tensors) - 1

    def _in_16_bits(self, node: fx.Node, number: int) -> int:
        """Values that are converted for a product: once, for all that read them."""
        if number not in self.wide:
            self.wide[number] = self._tensor(2 * self.tensors[number].size, 0)
            self.operators.append(Operator(node.name, "quantize", (number,), (self.wide[number],)))
        return self.wide[number]

    def _window(self, node: fx.Node, sources: list[int]) -> Window | None:
        """Which rows each row of a map reads, as the runtime's padding has it; None where that can't be in bands."""
        kind = word(node)
        if kind in _EACH:
            return EACH if all(self._follows(node, source) for source in node.all_input_nodes) else None
        if kind == "avg_pool2d":
            return _averaged(node)
        windows, before = windows_of(node), node.all_input_nodes[0]
        if windows is None or not self.tensors[sources[0]].rows:
            return None
        apart = before.target is PAD and not _vanishes(before)
        if not apart and not windows.free:
            return None
        rows = windows.rows
        same = not apart and not (rows.valid and windows.columns.valid)
        return EACH if rows.reach == rows.stride == 1 else Window(rows.reach, rows.stride, same)

    def _follows(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether an operand of an elementwise operation is a map like its result, or the same in each row."""
        shape = source.meta["val"].shape
        if len(shape) < 3 or (len(shape) == 4 and shape[2] == 1):
            return True
        alike = len(shape) == 4 and shape[2] == node.meta["val"].shape[2]
        return alike and source in self.lies and self.tensors[self.lies[source]].rows > 0


def _map_rows(node: fx.Node) -> int:
    shape = node.meta["val"].shape
    return int(shape[2]) if len(shape) == 4 else 0


def _padded(node: fx.Node) -> int | None:
    """Numbers of the padded map that windows with padding of their own want; None where there is no such map."""
    windows, before = windows_of(node), node.all_input_nodes[0]
    if word(node) == "avg_pool2d":
        sides = pair(argument_of(node, 3, 0))
    elif windows is None or windows.free or takes_in(node):
        return None
    else:
        sides = windows.rows.before, windows.columns.before
    n, channels, height, width = before.meta["val"].shape
    return int(n * channels * (height + 2 * sides[0]) * (width + 2 * sides[1])) if any(sides) else None


def _scratch(node: fx.Node, width: int) -> tuple[int, ...]:
    """Bytes that a kernel asks for beside its operands and its result."""
    if word(node) in _SUMMED and width == 1:  # sums of 32 bits
        return (4 * prod(node.meta["val"].shape),)
    if word(node) == "pad":  # mirrored: a number for each axis of both maps
        return (4 * node.meta["val"].dim(),) * 2
    return ()


def _averaged(node: fx.Node) -> Window | None:
    """The windows of an average that has no padding."""
    kernel, stride = node.args[1], argument_of(node, 2, None)
    return None if any(pair(argument_of(node, 3, 0))) else Window(pair(kernel)[0], pair(stride or kernel)[0])


def _results(node: fx.Node, width: int) -> Iterator[tuple[str, int]]:
    """What an operation leaves behind, in order: operations of the file, and bytes of their results."""
    kind, size = word(node), prod(node.meta["val"].shape)
    if kind == "softmax" and width == 1:  # in 16 bits
        yield from (("quantize", 2 * size), ("softmax", 2 * size))
        if not all(mixes(user) for user in node.users):
            yield "quantize again", size
    elif width == 1 and mixes(node):
        yield from ((kind, 2 * size), ("quantize", size))
    elif width == 1 and kind in _IN_FLOATS:
        yield from (("dequantize", 4 * size), (kind, 4 * size), ("quantize", size))
    else:
        yield "mul" if kind in _GATED else kind, size * width


def _vanishes(node: fx.Node) -> bool:
    kind, source = word(node), node.all_input_nodes[0]
    if kind in _VANISH or (kind in ("reshape", "view", "unsqueeze", "flatten") and _same_order(node)):
        return True
    if kind in _FUSED:
        return len(source.users) == 1 and word(source) in _FUSE
    if node.target is PAD:
        return all(takes_in(user) and _free(user) for user in node.users)
    return False


def _free(node: fx.Node) -> bool:
    windows = windows_of(node)
    return windows is not None and windows.free


def _same_order(node: fx.Node) -> bool:
    """Whether a reshape only drops or adds sides of one."""
    before = [side for side in node.all_input_nodes[0].meta["val"].shape if side != 1]
    return before == [side for side in node.meta["val"].shape if side != 1]
