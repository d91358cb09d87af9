"""Operations with a stride: what torch.fx shows of them, and how their stride is changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

from sapool.analysis.dataflow import operation
from sapool.poolings.dynamic import DynamicConv2d

OperationKind = Literal["conv", "pool"]

_MODULES: tuple[tuple[type[nn.Module], OperationKind], ...] = (
    (nn.Conv2d, "conv"),
    (DynamicConv2d, "conv"),
    (nn.MaxPool2d, "pool"),
    (nn.AvgPool2d, "pool"),
)

# Of each function: its kind, and its parameters in order.
_FUNCTIONS: Mapping[Callable[..., Any], tuple[OperationKind, tuple[str, ...]]] = MappingProxyType(
    {
        F.conv2d: ("conv", ("input", "weight", "bias", "stride", "padding", "dilation", "groups")),
        torch.conv2d: ("conv", ("input", "weight", "bias", "stride", "padding", "dilation", "groups")),
        F.max_pool2d: ("pool", ("input", "kernel_size", "stride", "padding", "dilation")),
        torch.max_pool2d: ("pool", ("input", "kernel_size", "stride", "padding", "dilation")),
        F.avg_pool2d: ("pool", ("input", "kernel_size", "stride", "padding")),
    }
)


@dataclass(frozen=True)
class Strided:
    """A convolution or pooling whose stride is a number.

    Attributes:
        kind: `conv` or `pool`.
        stride: of both directions.
        kernel: its side, dilation included; None where it isn't known before running.
        padding: on each of the four sides; None where the operation pads as it needs (`same`).
        depthwise: whether each channel is convolved by itself.
        averages: whether it is an average pooling.
    """

    kind: OperationKind
    stride: int
    kernel: int | None
    padding: int | None
    depthwise: bool
    averages: bool = False


def strided(module: fx.GraphModule, node: fx.Node) -> Strided | None:
    """What a node is, if it has a stride that can be changed."""
    settings = _settings(module, node)
    if settings is None:
        return None
    kind, values = settings
    kernel, dilation = _side(values.get("kernel_size")), _side(values.get("dilation", 1))
    stride = _side(values["stride"]) if values.get("stride") is not None else kernel
    if stride is None or dilation is None:
        return None
    padding = values.get("padding", 0)
    groups = values.get("groups", 1)
    return Strided(
        kind=kind,
        stride=stride,
        kernel=None if kernel is None else dilation * (kernel - 1) + 1,
        padding=None if isinstance(padding, str) or values.get("pads") else _side(padding),
        averages=kind == "pool" and "avg" in operation(module, node).lower(),
        depthwise=kind == "conv" and isinstance(groups, int) and groups > 1 and groups == values.get("in_channels"),
    )


def set_stride(module: fx.GraphModule, node: fx.Node, stride: int) -> None:
    """Gives a node another stride. A pooling whose windows didn't overlap gets windows of the new size.

    A convolution that kept H/stride pixels of every H goes on to do so: where its kernel needs more padding for that
    than it has, as a 2×2 one at stride 1, zeros are added below and on the right.
    """
    was = strided(module, node)
    assert was is not None
    changes = {"stride": stride}
    if was.kind == "pool" and was.kernel == was.stride:
        changes |= {"kernel_size": stride, "padding": 0}
    _change(module, node, was, changes)
    if was.kind == "conv" and (missing := _missing(was, stride)):
        with module.graph.inserting_before(node):
            source = node.all_input_nodes[0]
            padded = module.graph.create_node(
                "call_function", F.pad, (source, (0, missing, 0, missing)), name=f"{node.name}_pad"
            )
            padded.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
        node.replace_input_with(source, padded)


def make_dense(module: fx.GraphModule, node: fx.Node) -> None:
    """Carries a strided operation out at every pixel. Every s-th pixel of its result is what it returned before."""
    was = strided(module, node)
    assert was is not None
    _change(module, node, was, {"stride": 1})


def _change(module: fx.GraphModule, node: fx.Node, was: Strided, changes: Mapping[str, int]) -> None:
    """Sets arguments of an operation."""
    if node.op == "call_module":
        target = _own_module(module, node)
        for name, value in changes.items():
            setattr(target, name, value if was.kind == "pool" else (value, value))
    else:
        _, names = _FUNCTIONS[node.target]  # type: ignore[index]
        node.kwargs = {**dict(zip(names, node.args, strict=False)), **node.kwargs, **changes}
        node.args = ()


def _missing(was: Strided, stride: int) -> int:
    """How much padding keeps ⌈H/stride⌉ pixels, where the old stride's were kept: the smallest of -s ≤ 2p - k < 0."""
    if was.kernel is None or was.padding is None:
        return 0
    room = 2 * was.padding - was.kernel
    return max(0, -stride - room) if -was.stride <= room < 0 else 0


def _own_module(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    """The node's module; a copy under a name of its own where others call it too."""
    path = str(node.target)
    target = module.get_submodule(path)
    if len(module.graph.find_nodes(op="call_module", target=path)) == 1:
        return target
    assert not list(target.parameters()), f"{path} is called twice"
    target, path = copy.deepcopy(target), f"{path}_{node.name.rpartition('_')[2]}"
    module.add_submodule(path, target)
    node.target = path
    return target


def _settings(module: nn.Module, node: fx.Node) -> tuple[OperationKind, Mapping[str, Any]] | None:
    if node.op == "call_module":
        target = module.get_submodule(str(node.target))
        shared = len(node.graph.find_nodes(op="call_module", target=node.target)) > 1
        if shared and list(target.parameters()):
            return None
        for kind, word in _MODULES:
            if isinstance(target, kind):
                # Classes derived from torch's may pad by themselves; only theirs are known to do what they say.
                return word, {**vars(target), "pads": type(target).__module__.partition(".")[0] != "torch"}
    elif node.op == "call_function" and callable(node.target) and node.target in _FUNCTIONS:
        word, names = _FUNCTIONS[node.target]
        return word, {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return None


def _side(value: Any) -> int | None:
    """The number of a pair of equal ones, or a number itself."""
    if isinstance(value, int):
        return value
    if isinstance(value, (tuple, list)) and len(set(value)) == 1 and isinstance(value[0], int):
        return value[0]
    return None
