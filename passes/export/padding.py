"""Padding that costs nothing: windows laid so that what runtimes pad by themselves is what the network pads.

Where the two differ, a converter writes an operation of its own that copies the whole map into a larger one. A kernel
with rows and columns of zeros at its edges computes the same, and its windows are others: often they can be had without
that copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from torch import Tensor, fx
from torch.nn import functional as F

from sapool.ir.plan import Plan
from sapool.passes.export.windows import CONVOLUTIONS, PAD, Windows, argument_of, border_of, takes_in, windows_of
from sapool.passes.record import Log


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


def lay(module: fx.GraphModule, node: fx.Node, windows: Windows, zeros: tuple[int, int, int, int]) -> None:
    """Makes a convolution, or a max-pooling, take such windows of the map before its padding."""
    graph, x = module.graph, node.args[0]
    assert isinstance(x, fx.Node)
    pooling, value = node.target not in CONVOLUTIONS, border_of(node)
    if takes_in(node):
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
        bias = argument_of(node, 2, None)
        laid = graph.call_function(
            CONVOLUTIONS[0],
            (
                x,
                weight,
                bias,
                [rows.stride, columns.stride],
                [0, 0],
                [rows.dilation, columns.dilation],
                argument_of(node, 6, 1),
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
