"""Shapes of a graph's values, propagated on the meta device: nothing is computed, no weight is copied."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from sapool.analysis.dataflow import operation
from sapool.errors import first_line

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
    with evaluated(module) as twin:
        for size in sizes:
            recorder = _Recorder(twin)
            with torch.no_grad(), MetaShapes():
                recorder.run(image(module, size))
            found.append(recorder.values)
    return found


# Behind these the channels aren't the image's.
_REGROUPING = frozenset({"view", "reshape", "permute", "unfold", "pixel_unshuffle", "PixelUnshuffle"})


def image(module: fx.GraphModule, size: Size, batch: int = 1) -> Tensor:
    """An image for a graph, (batch, C, height, width) on the meta device, with the channels that it takes."""
    first = _first_convolution(module)
    sides = (size, size) if isinstance(size, int) else size
    return torch.empty(batch, first[1].in_channels if first else 3, *sides, device="meta")


def input_convolution(module: fx.GraphModule) -> tuple[fx.Node, nn.Conv2d] | None:
    """The first convolution of a graph, which takes the image's channels.

    None where it isn't a plain module's, or where pixels are moved into channels before it.
    """
    found = _first_convolution(module)
    return found if found is not None and found[1].groups == 1 else None


def _first_convolution(module: fx.GraphModule) -> tuple[fx.Node, nn.Conv2d] | None:
    for node in module.graph.nodes:
        if operation(module, node) in _REGROUPING:
            return None
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if hasattr(layer, "in_channels") and hasattr(layer, "kernel_size"):
                return node, layer  # type: ignore[return-value]
    return None


@contextmanager
def evaluated(module: fx.GraphModule) -> Iterator[fx.GraphModule]:
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
    """Knows the shapes of what backbones do most, which torch works out at length on the meta device."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        shaped = known_result(func, args, kwargs or {})
        return func(*args, **(kwargs or {})) if shaped is None else shaped


def known_result(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What an operation of the meta device returns, where that is a matter of shapes alone; else None."""
    rule = _RULES.get(func)
    return None if rule is None else rule(args, kwargs)


def _normalized(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What `torch.nn.functional.batch_norm` returns, where that is a matter of the shape alone."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    x, mean = given["input"], given.get("running_mean")
    if given.get("training") or not x.is_meta or mean is None or x.shape[1] != mean.shape[0]:
        return None
    return torch.empty_like(x)


def _convolved(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What a convolution of a map returns; None where torch should work that out, or say what is wrong."""
    if len(args) != 7 or kwargs:  # as `torch.nn.Conv2d` calls it
        return None
    x, weight, _, stride, padding, dilation, groups = args
    plain = isinstance(padding, tuple) and x.is_meta and x.dim() == 4 and x.shape[1] == weight.shape[1] * groups
    if not plain:
        return None
    sides = [
        (size + 2 * pad - spread * (kernel - 1) - 1) // step + 1
        for size, pad, spread, kernel, step in zip(
            x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    return x.new_empty((x.shape[0], weight.shape[0], *sides)) if min(sides) > 0 else None


def _alike(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The result of an activation; in place it is the operand."""
    if not args or not args[0].is_meta:
        return None
    in_place = kwargs.get("inplace", args[-1] is True)  # as `torch.nn.Hardtanh` says it
    return args[0] if in_place else torch.empty_like(args[0])


def _joined(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The concatenation of maps along their channels."""
    maps: list[Any] = list(args[0]) if args else []
    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    if dim != 1 or not all(isinstance(x, Tensor) and x.is_meta and x.dim() == 4 for x in maps):
        return None
    first = maps[0].shape
    if any((x.shape[0], *x.shape[2:]) != (first[0], *first[2:]) for x in maps):
        return None
    return maps[0].new_empty((first[0], sum(x.shape[1] for x in maps), *first[2:]))  # type: ignore[no-any-return]


def _combined(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The sum or product of two maps, or of a map and what is the same for all its pixels."""
    if kwargs or len(args) != 2 or not all(isinstance(x, Tensor) and x.is_meta for x in args):
        return None
    one: Tensor
    other: Tensor
    one, other = args
    if one.dtype != other.dtype or one.dim() != other.dim():
        return None
    pairs = list(zip(one.shape, other.shape, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        return None
    return one.new_empty([max(a, b) for a, b in pairs])


def _layer_normalized(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The result of a layer norm over the last dimensions."""
    if len(args) < 2 or not args[0].is_meta or tuple(args[0].shape[-len(args[1]) :]) != tuple(args[1]):
        return None
    return torch.empty_like(args[0])


def _averaged(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The average over a whole map."""
    if kwargs or len(args) != 2 or not args[0].is_meta or args[0].dim() != 4 or args[1] not in (1, (1, 1)):
        return None
    return args[0].new_empty((*args[0].shape[:2], 1, 1))  # type: ignore[no-any-return]


def _projected(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The result of a linear layer."""
    if kwargs or len(args) < 2 or not args[0].is_meta or args[0].shape[-1] != args[1].shape[1]:
        return None
    return args[0].new_empty((*args[0].shape[:-1], args[1].shape[0]))  # type: ignore[no-any-return]


_RULES: Mapping[Any, Callable[[tuple[Any, ...], Mapping[str, Any]], Tensor | None]] = MappingProxyType(
    {
        F.batch_norm: _normalized,
        F.conv2d: _convolved,
        F.layer_norm: _layer_normalized,
        F.linear: _projected,
        F.adaptive_avg_pool2d: _averaged,
        torch.cat: _joined,
        **dict.fromkeys((Tensor.add, Tensor.mul, torch.add, torch.mul), _combined),
        **dict.fromkeys((F.relu, F.relu6, F.hardtanh, F.silu, F.gelu, F.hardswish, F.hardsigmoid), _alike),
        **dict.fromkeys((torch.relu, torch.sigmoid), _alike),
    }
)


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
            raise ShapeError(n.name, shape, first_line(error)) from None
        self.values[n.name] = value
        return value
