"""Shapes of a graph's values, propagated on the meta device: nothing is computed, no weight is copied."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Size = int | tuple[int, int]
"""The side of a square image, or (height, width)."""


def on_meta(module: nn.Module) -> nn.Module:
    """A copy of a module in eval mode whose parameters and buffers have shapes and no data."""
    # deepcopy looks up each tensor in its memo first, so real ones are never copied.
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, memo).eval()


def propagate(module: fx.GraphModule, *sizes: Size) -> list[dict[str, Any]]:
    """What each node of a graph returns for an image of each size: the value on the meta device, by name.

    Raises:
        ShapeError: an operation can't take the shape that reaches it; names the node.
    """
    found = []
    with _evaluated(module) as twin:
        for size in sizes:
            recorder = _Recorder(twin)
            with torch.no_grad(), MetaShapes():
                recorder.run(image(module, size))
            found.append(recorder.values)
    return found


def image(module: fx.GraphModule, size: Size, batch: int = 1) -> Tensor:
    """An image for a graph, (batch, C, height, width) on the meta device, with the channels that it takes."""
    first = input_convolution(module)
    sides = (size, size) if isinstance(size, int) else size
    return torch.empty(batch, first[1].in_channels if first else 3, *sides, device="meta")


def input_convolution(module: fx.GraphModule) -> tuple[fx.Node, nn.Conv2d] | None:
    """The first convolution of a graph, which takes the image's channels; None where it isn't a plain module's."""
    for node in module.graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if hasattr(layer, "in_channels") and hasattr(layer, "kernel_size"):
                return (node, layer) if layer.groups == 1 else None  # type: ignore[return-value]
    return None


@contextmanager
def _evaluated(module: fx.GraphModule) -> Iterator[fx.GraphModule]:
    """The module without data and in eval mode: itself, for the time, where it has none."""
    tensors = [*module.parameters(), *module.buffers()]
    if not all(tensor.is_meta for tensor in tensors):
        yield on_meta(module)  # type: ignore[misc]
        return
    before = [child for child in module.modules() if child.training]
    try:
        for child in before:
            child.training = False
        yield module
    finally:
        for child in before:
            child.training = True


class MetaShapes(TorchFunctionMode):
    """Knows the shapes of what torch decomposes at length on the meta device: batch norms in eval mode."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm and (shape := normalized_shape(args, kwargs or {})) is not None:
            return shape
        return func(*args, **(kwargs or {}))


def normalized_shape(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What `torch.nn.functional.batch_norm` returns, where that is a matter of the shape alone."""
    given = dict(
        zip(("input", "running_mean", "running_var", "weight", "bias", "training"), args, strict=False)
    ) | dict(kwargs)
    x, mean = given["input"], given.get("running_mean")
    if given.get("training") or not x.is_meta or mean is None or x.shape[1] != mean.shape[0]:
        return None
    return torch.empty_like(x)


class ShapeError(Exception):
    """An operation refused the shape that reached it.

    Attributes:
        node: the node's name.
        shape: of its first tensor argument, or None.
        reason: what the operation said.
    """

    def __init__(self, node: str, shape: tuple[int, ...] | None, reason: str) -> None:
        super().__init__(f"{node}: {reason}")
        self.node, self.shape, self.reason = node, shape, reason


class _Recorder(fx.Interpreter):
    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.extra_traceback = False
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except Exception as error:  # operations refuse shapes in many ways, assertions of the backbone's own among them
            operands: Any = self.map_nodes_to_values(n.args, n)
            arguments = [operand for operand in tree_leaves(operands) if isinstance(operand, Tensor)]
            shape = tuple(arguments[0].shape) if arguments else None
            raise ShapeError(n.name, shape, (str(error).splitlines() or [type(error).__name__])[0]) from None
        self.values[n.name] = value
        return value
