"""Which storages a graph's values lie in, and from when to when they are needed."""

from __future__ import annotations

from math import prod

import networkx as nx
from torch import Tensor, fx

from sapool.analysis.dataflow import Dataflow
from sapool.cost.assumptions import Assumptions

ELEMENTWISE = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "exp", "sqrt", "rsqrt", "clamp", "dropout"),
        *("relu", "relu6", "leaky_relu", "gelu", "silu", "hardtanh", "hardswish", "hardsigmoid"),
        *("sigmoid", "tanh", "softplus"),
        "batch_norm",  # in eval mode, where no convolution before it has taken it in
    )
)
"""Operations that read each element once, where they write it."""


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
        key = storage_of(value)
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
                last[storage_of(value)] = max([last.get(storage_of(value), place), *uses])
        return last

    def _overwritten(
        self, node: fx.Node, value: Tensor, place: int, last_use: dict[int, int], assumptions: Assumptions
    ) -> str | None:
        """The storage that an operation may write its result into, or None."""
        depthwise = assumptions.inplace_depthwise and is_depthwise(node)
        if operation_name(node).removesuffix("_") not in ELEMENTWISE and not depthwise:
            return None
        for source in node.all_input_nodes:
            operand = source.meta.get("value")
            if source.name not in self.storage or not isinstance(operand, Tensor):
                continue
            name = self.storage[source.name]
            dies = max(self.span[name][1], last_use[storage_of(operand)]) <= place
            whole = prod(operand.shape) == self.elements[name]
            fits = operand.shape == value.shape or (depthwise and value.numel() <= operand.numel())
            if dies and whole and fits:
                return name
        return None


def storage_of(value: Tensor) -> int:
    """Which storage a tensor lies in; views of one have the same."""
    return int(value.untyped_storage()._cdata)


def operation_name(node: fx.Node) -> str:
    """The word for what a node computes."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def is_depthwise(node: fx.Node) -> bool:
    """Whether a node is a convolution of each channel with a kernel of its own."""
    if operation_name(node) != "conv2d":
        return False
    x, weight = (source.meta["value"] for source in node.all_input_nodes[:2])
    return bool(weight.shape[1] == 1 and weight.shape[0] == x.shape[1])
