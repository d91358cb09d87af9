"""Shapes of a graph's values, propagated on the meta device: nothing is computed, no weight is copied."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves


def on_meta(module: nn.Module) -> nn.Module:
    """A copy of a module in eval mode whose parameters and buffers have shapes and no data."""
    # deepcopy looks up each tensor in its memo first, so real ones are never copied.
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, memo).eval()


def propagate(module: fx.GraphModule, *sides: int) -> list[dict[str, Any]]:
    """What each node of a graph returns for an image of (1, 3, side, side): the value on the meta device, by name.

    Raises:
        ShapeError: an operation can't take the shape that reaches it; names the node.
    """
    twin, found = on_meta(module), []
    for side in sides:
        recorder = _Recorder(twin)
        with torch.no_grad():
            recorder.run(torch.empty(1, 3, side, side, device="meta"))
        found.append(recorder.values)
    return found


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
