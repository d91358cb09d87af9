"""Peak activation memory: what a device has to hold while a network runs on one image.

Batch 1, eval mode, batch norms folded, operations in the order of the model's graph. Peak memory is the largest, over
operations, of the sum of live storages (operands, results, everything needed later) plus the operation's own scratch.
Weights, and values that depend on nothing else, are excluded; the network's input and output are included unless asked
otherwise. Views share their storage. An elementwise operation works in place where its operand dies, so activations
cost nothing after a convolution.

This is the definition of MCUNetV2 (Lin et al., NeurIPS 2021) carried to graphs with attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, get_args

import networkx as nx
from torch import Tensor, fx

from sapool.analysis.dataflow import Dataflow
from sapool.analysis.shapes import on_meta
from sapool.cost.arena import Buffer, arena_size
from sapool.cost.unroll import unroll
from sapool.errors import InputError
from sapool.ir.plan import Plan
from sapool.passes.fold_norms import fold_norms
from sapool.passes.record import Log

Dtype = Literal["int8", "fp16", "fp32"]
Attention = Literal["streaming", "full"]

BYTES: dict[str, int] = {"int8": 1, "fp16": 2, "fp32": 4}

# Operations that read each element once, where they write it.
_ELEMENTWISE = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "exp", "sqrt", "rsqrt", "clamp", "dropout"),
        *("relu", "relu6", "leaky_relu", "gelu", "silu", "hardtanh", "hardswish", "hardsigmoid"),
        *("sigmoid", "tanh", "softplus"),
        "batch_norm",  # in eval mode, where no convolution before it has taken it in
    )
)


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of the device.

    Attributes:
        dtype: of every activation.
        attention: `streaming` holds one row of scores at a time, `full` all of them (heads × tokens²).
        io: whether the network's input and output count.
        inplace_depthwise: whether a depthwise convolution overwrites its operand channel by channel.
    """

    dtype: Dtype = "int8"
    attention: Attention = "streaming"
    io: bool = True
    inplace_depthwise: bool = False

    def __post_init__(self) -> None:
        for name, known in (("dtype", get_args(Dtype)), ("attention", get_args(Attention))):
            if getattr(self, name) not in known:
                raise InputError(f"{name}: expected {' or '.join(known)}, not '{getattr(self, name)}'")

    def __str__(self) -> str:
        parts = [
            self.dtype,
            f"{self.attention} attention",
            "input and output " + ("included" if self.io else "excluded"),
        ]
        return ", ".join(parts + (["depthwise convolutions in place"] if self.inplace_depthwise else []))


@dataclass(frozen=True)
class Step:
    """One operation of the timeline.

    Attributes:
        node: its name in the unrolled graph; `part` is the model's node that it belongs to.
        operation: what it computes.
        live: bytes of all storages that are live while it runs; `scratch` is its own on top.
    """

    node: str
    part: str
    operation: str
    live: int
    scratch: int

    @property
    def total(self) -> int:
        """Bytes held while the operation runs."""
        return self.live + self.scratch


@dataclass(frozen=True)
class Memory:
    """A network's activation memory.

    Attributes:
        steps: the timeline, in order of execution.
        arena: bytes of one buffer that holds every storage at a fixed offset, as an embedded runtime allocates.
        buffers: the storages with their lifetimes and offsets in it.
        assumptions: under which this was computed.
    """

    steps: tuple[Step, ...]
    arena: int
    buffers: tuple[Buffer, ...]
    assumptions: Assumptions

    @property
    def worst(self) -> Step:
        """The operation at the peak."""
        return max(self.steps, key=lambda step: step.total)

    @property
    def peak(self) -> int:
        """Bytes at the peak: no allocation can do with less in this order of execution."""
        return self.worst.total


def activation_memory(module: fx.GraphModule, plan: Plan, assumptions: Assumptions | None = None) -> Memory:
    """The activation memory of a model, or of any traced network, for one square image of the plan's size."""
    assumptions = assumptions or Assumptions()
    twin: Any = on_meta(module)
    fold_norms(twin, plan, Log())
    return analyse(unroll(twin, plan.image_size, plan.image_size), assumptions)


def analyse(graph: fx.GraphModule, assumptions: Assumptions) -> Memory:
    """The timeline of an unrolled graph."""
    life = Lifetimes(graph, assumptions)
    width = BYTES[assumptions.dtype]
    buffers = [
        Buffer(name, elements * width, *life.span[name])
        for name, elements in life.elements.items()
        if assumptions.io or name not in life.io
    ]
    steps = []
    for place, node in life.operations:
        live = sum(buffer.size for buffer in buffers if buffer.first <= place <= buffer.last)
        scratch = _scratch(node, assumptions) * width
        steps.append(Step(node.name, node.meta["part"], operation_name(node), live, scratch))
    size, placed = arena_size([*buffers, *_scratch_buffers(life, assumptions, width)])
    return Memory(tuple(steps), size, tuple(placed), assumptions)


class Lifetimes:
    """Which storages a graph's values lie in, and from when to when they are needed.

    Attributes:
        storage: node name to storage name, for every value that isn't a weight; a storage is named after the first
            node that lies in it.
        elements: storage name to its number of elements.
        span: storage name to the places in `flow.order` of its first and last use.
        io: storages of the network's input and output.
        operations: (place, node) of every node that computes something.
        in_place: nodes that write into an operand's storage.
    """

    def __init__(self, graph: fx.GraphModule, assumptions: Assumptions) -> None:
        self.flow = Dataflow(graph.graph)
        self.storage: dict[str, str] = {}
        self.elements: dict[str, int] = {}
        self.span: dict[str, tuple[int, int]] = {}
        self.io: set[str] = set()
        self.operations: list[tuple[int, fx.Node]] = []
        self.in_place: dict[str, str] = {}
        self._names: dict[int, str] = {}
        # What doesn't follow from the input depends on weights alone; a device stores it with them.
        inputs = graph.graph.find_nodes(op="placeholder")
        variable = {*inputs, *(node for source in inputs for node in nx.descendants(self.flow.edges, source))}
        last_use = self._last_uses()
        for node, place in self.flow.order.items():
            value = node.meta.get("value")
            if node.op == "output":
                self.io |= {self.storage[source.name] for source in node.all_input_nodes if source.name in self.storage}
            elif isinstance(value, Tensor) and node in variable:
                self._enter(node, value, place, last_use, assumptions)

    def _enter(
        self, node: fx.Node, value: Tensor, place: int, last_use: dict[int, int], assumptions: Assumptions
    ) -> None:
        key = _key(value)
        fresh = key not in self._names
        if fresh:
            operand = self._overwritten(node, value, place, last_use, assumptions)
            if operand is not None:
                self._names[key] = operand
                self.in_place[node.name] = operand
            else:
                self._names[key] = node.name
                self.elements[node.name] = value.untyped_storage().nbytes() // value.element_size()
                self.span[node.name] = (place, place)
        name = self.storage[node.name] = self._names[key]
        first, last = self.span[name]
        self.span[name] = (first, max(last, last_use[key]))
        if node.op == "placeholder":
            self.io.add(name)
        elif fresh:
            self.operations.append((place, node))

    def _last_uses(self) -> dict[int, int]:
        """The place of the last node that reads each storage, views of it included."""
        last: dict[int, int] = {}
        for node, place in self.flow.order.items():
            value = node.meta.get("value")
            if isinstance(value, Tensor):
                uses = [self.flow.order[user] for user in self.flow.edges.successors(node)]
                last[_key(value)] = max([last.get(_key(value), place), *uses])
        return last

    def _overwritten(
        self, node: fx.Node, value: Tensor, place: int, last_use: dict[int, int], assumptions: Assumptions
    ) -> str | None:
        """The storage that an operation may write its result into, or None."""
        depthwise = assumptions.inplace_depthwise and _is_depthwise(node)
        if operation_name(node).removesuffix("_") not in _ELEMENTWISE and not depthwise:
            return None
        for source in node.all_input_nodes:
            operand = source.meta.get("value")
            if source.name not in self.storage or not isinstance(operand, Tensor):
                continue
            name = self.storage[source.name]
            dies = max(self.span[name][1], last_use[_key(operand)]) <= place
            whole = prod(operand.shape) == self.elements[name]
            fits = operand.shape == value.shape or (depthwise and value.numel() <= operand.numel())
            if dies and whole and fits:
                return name
        return None


def _key(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


def operation_name(node: fx.Node) -> str:
    """The word for what a node computes."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _is_depthwise(node: fx.Node) -> bool:
    if operation_name(node) != "conv2d":
        return False
    x, weight = (source.meta["value"] for source in node.all_input_nodes[:2])
    return bool(weight.shape[1] == 1 and weight.shape[0] == x.shape[1])


def _scratch(node: fx.Node, assumptions: Assumptions) -> int:
    """Elements that an operation needs beside operands and results."""
    if operation_name(node) != "scaled_dot_product_attention":
        return 0
    query, key = (source.meta["value"] for source in node.all_input_nodes[:2])
    heads, rows = (prod(query.shape[:-2]), query.shape[-2]) if assumptions.attention == "full" else (1, 1)
    return int(heads * rows * key.shape[-2])


def _scratch_buffers(life: Lifetimes, assumptions: Assumptions, width: int) -> list[Buffer]:
    scratches = [(place, node, _scratch(node, assumptions) * width) for place, node in life.operations]
    return [Buffer(f"{node.name}.scratch", size, place, place) for place, node, size in scratches if size]


UNITS = {"": 1, "B": 1, "KB": 1024, "KIB": 1024, "MB": 1024**2, "MIB": 1024**2}


def parse_size(text: str) -> int:
    """Bytes of a size such as `256KB` (1 KB is 1024 bytes, as microcontrollers' data sheets count).

    Raises:
        InputError: it isn't one.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in UNITS:
        raise InputError(f"'{text}' isn't a size; expected a number of bytes, KB or MB, for instance 256KB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def to_blame(memory: Memory, budget: int, parts: Mapping[str, str]) -> list[tuple[str, int]]:
    """The parts of a network that need more than `budget` bytes, with their worst moment, the worst first.

    Args:
        parts: which part each of the model's nodes belongs to (`sapool.cost.flops.parts_of`).
    """
    worst: dict[str, int] = {}
    for step in memory.steps:
        part = parts.get(step.part, step.part)
        worst[part] = max(worst.get(part, 0), step.total)
    over = [(part, needed) for part, needed in worst.items() if needed > budget]
    return sorted(over, key=lambda item: -item[1])
