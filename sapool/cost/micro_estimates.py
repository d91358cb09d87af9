"""What TensorFlow Lite Micro takes beside activations, estimated: its own part of the arena, and flash.

The figures a tensor and an operation are what its recorder told of a dozen networks of 60 to 280 operations, with
pointers of 8 bytes; the sum was within a tenth of the recorded one. A microcontroller's pointers have 4, so there it
is less.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from torch import Tensor, fx

from sapool.passes.export.windows import CONVOLUTIONS

NODE, TENSOR, PREPARED = 64, 24, 165
"""Bytes of an operation's record, of a tensor's, and of what a kernel keeps."""
WINDOW = 64
"""Bytes of what a convolution's kernel keeps beside its channels."""
REQUANTIZED = 8
"""Bytes of a channel's multiplier and shift."""
_DESCRIBED, _PER_CHANNEL = 200, 24
"""Bytes in the file of a tensor's description, and of the scales and zero points of a channel's weights and bias."""
CORE, KERNEL = 48 * 1024, 4 * 1024
"""Bytes of code: of the interpreter and what it links to, and of a kind of operation. An allowance, not measured."""


def tail(flat: fx.GraphModule, operations: int, width: int) -> int:
    """Bytes that the runtime keeps for itself: records, what kernels prepare, and values that products transpose."""
    transposed = 0
    for node in flat.graph.nodes:
        if node.op == "call_function" and mixes(node):
            transposed += prod(node.all_input_nodes[1].meta["val"].shape) * (2 if width == 1 else 4)
    channels = sum(requantized(node) for node in flat.graph.nodes) if width == 1 else 0
    return operations * (NODE + 2 * TENSOR + PREPARED) + REQUANTIZED * channels + transposed


def flash(flat: fx.GraphModule, kinds: Collection[str], operations: int, width: int) -> int:
    """Bytes of the file without what it says of itself, and of the code that runs it."""
    used = {node for node in flat.graph.nodes if node.op == "get_attr" and node.users}
    biases = {node.args[2] for node in flat.graph.nodes if requantized(node) and len(node.args) > 2}
    weights = sum(prod(node.meta["val"].shape) * (4 if node in biases else width) for node in used if _is_tensor(node))
    channels = sum(requantized(node) for node in flat.graph.nodes) if width == 1 else 0
    return int(weights) + _PER_CHANNEL * channels + 2 * _DESCRIBED * operations + CORE + KERNEL * len(kinds)


def record(channels: int, *, window: bool) -> int:
    """Bytes of what the runtime keeps of one more operator in a band, with so many channels that are requantized."""
    return NODE + 2 * TENSOR + (WINDOW if window else 0) + REQUANTIZED * channels


def word(node: fx.Node) -> str:
    """What a node of a flat graph computes, as a word."""
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]


def mixes(node: fx.Node) -> bool:
    """Whether an operation is the product of a softmax and values."""
    return word(node) in ("matmul", "bmm") and word(node.all_input_nodes[0]) == "softmax"


def requantized(node: fx.Node) -> int:
    """The channels of a result that has a scale for each."""
    if node.op != "call_function" or not (node.target in CONVOLUTIONS or word(node) == "linear"):
        return 0
    return int(node.args[1].meta["val"].shape[0])  # type: ignore[union-attr]


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)
