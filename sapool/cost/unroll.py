"""A model as one flat graph of tensor operations at one image size, the insides of its poolings included.

`torch.fx` keeps a pooling as one node, because what it does depends on shapes. Here the model is run once on the meta
device and every tensor operation is written down as it happens, so shapes are numbers and nothing is hidden. The graph
runs as well as it reads: with the model's tensors it computes what the model computes, for images of that size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from sapool.analysis.shapes import evaluated, image, known_result

Value = Any


def unroll(module: fx.GraphModule, height: int, width: int, batch: int = 1) -> fx.GraphModule:
    """The flat graph of a model in eval mode for input of (batch, C, height, width).

    Each node carries `part`, the name of the model's own node that it came from, `macs`, its multiply-accumulates, and
    `value`, its result on the meta device; values that share a storage are views of each other.
    """
    with evaluated(module) as twin:
        recorder = _Recorder(twin)
        x = image(module, (height, width), batch)
        recorder.place(x, "x", "input")
        with torch.no_grad(), recorder.flops:
            result = _Walk(twin, recorder).run(x)
    recorder.graph.output(recorder.arguments(result))
    recorder.graph.lint()
    return fx.GraphModule(dict(recorder.tensors(module)), recorder.graph, class_name="Unrolled")


class _Walk(fx.Interpreter):
    """Runs a model's graph node by node, telling the recorder which one."""

    def __init__(self, module: nn.Module, recorder: _Recorder) -> None:
        super().__init__(module)
        self.recorder = recorder

    def run_node(self, n: fx.Node) -> Value:
        self.recorder.part = n.name
        with self.recorder:
            return super().run_node(n)


class _Recorder(TorchFunctionMode):
    """Writes down each tensor operation as a node of a new graph."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.graph, self.part = fx.Graph(), ""
        self.flops = FlopCounterMode(display=False)
        self.nodes: dict[int, fx.Node] = {}
        self.kept: list[Tensor] = []  # a freed tensor's id would be given to another
        self.names = {id(tensor): name for name, tensor in _named_tensors(module)}

    def place(self, value: Tensor, name: str, part: str) -> None:
        """Makes `value` the graph's input."""
        self._remember(value, self.graph.placeholder(name), part)

    def tensors(self, module: nn.Module) -> Iterable[tuple[str, Tensor]]:
        """The parameters and buffers that the graph reads, from a module with numbers."""
        read = {str(node.target) for node in self.graph.find_nodes(op="get_attr")}
        return [(name, tensor) for name, tensor in _named_tensors(module) if name in read]

    def arguments(self, value: Value) -> Value:
        """The nodes in place of the tensors of a call's arguments."""
        return tree_map(lambda leaf: self._node(leaf) if isinstance(leaf, Tensor) else leaf, value)

    def __torch_function__(
        self, func: Callable[..., Value], types: object, args: Any = (), kwargs: Mapping[str, Value] | None = None
    ) -> Value:
        arguments, named = self.arguments(tuple(args)), self.arguments(dict(kwargs or {}))
        result: Value = known_result(func, args, kwargs or {})
        if result is None:
            before = self.flops.get_total_flops()
            result = func(*args, **(kwargs or {}))
            macs = (self.flops.get_total_flops() - before) // 2
        else:  # each element of a sum over what one output reads
            macs = result.numel() * args[1][0].numel() if func in (F.conv2d, F.linear) else 0
        if isinstance(result, Tensor):
            self._remember(result, self._call(func, arguments, named), self.part, macs)
        elif isinstance(result, (tuple, list)) and result and all(isinstance(item, Tensor) for item in result):
            whole = self._call(func, arguments, named)
            whole.meta.update(part=self.part, value=result, macs=macs)
            for index, item in enumerate(result):
                self._remember(item, self.graph.call_function(_item, (whole, index)), self.part)
        return result  # sizes and other plain answers are numbers here

    def _call(self, func: Callable[..., Value], args: Any, kwargs: Any) -> fx.Node:
        name = getattr(func, "__name__", "")
        kwargs.pop("device", None)  # it would be the meta device's
        if getattr(Tensor, name, None) is func:  # a method reads better by its name
            return self.graph.call_method(name, args, kwargs)
        return self.graph.call_function(func, args, kwargs)

    def _remember(self, value: Tensor, node: fx.Node, part: str, macs: int = 0) -> None:
        node.meta.update(part=part, value=value, macs=macs)
        self.nodes[id(value)] = node
        self.kept.append(value)

    def _node(self, value: Tensor) -> fx.Node:
        if id(value) not in self.nodes:
            assert id(value) in self.names, f"a tensor of {tuple(value.shape)} comes from nowhere"
            name = self.names[id(value)]
            self._remember(value, self.graph.get_attr(name), self.part)
        return self.nodes[id(value)]


def _item(values: Any, index: int) -> Any:
    return values[index]


def _named_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]
