"""Carrying out a schedule with tensors: bands are gathered, computed and let go as its moves say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from sapool.schedule.by_rows.pointwise import call
from sapool.schedule.by_rows.rows import ByRows, Summing, is_tensor
from sapool.schedule.constants import Template, filled
from sapool.schedule.schedule import Schedule

Lookup = Callable[[str], Any]
"""A parameter or buffer by its path."""


class Execution:
    """One run of a schedule. Everything it does to tensors is slices, concatenations and the network's own operations.

    Args:
        schedule: what is done, in which order.
        tensors: the network's parameters and buffers.
        templates: the nodes' arguments for any batch; without them the run is for one image in float32.
        dtype, device: of the parameters.
    """

    def __init__(
        self,
        schedule: Schedule,
        tensors: Lookup,
        templates: Mapping[fx.Node, Template] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self.schedule, self.net, self.tensors = schedule, schedule.net, tensors
        self.how, self.rows = self.net.tracking.how, self.net.tracking.rows
        self.templates, self.dtype, self.device = templates, dtype, device
        self.constants: dict[fx.Node, Any] = {}
        self.held: list[list[tuple[int, int, Any]]] = [[] for _ in self.net.operations]
        self.x: Any = None
        self.solid: frozenset[int] = frozenset()

    def run(self, x: Any) -> Any:
        """The network's result for a batch of images."""
        self.x = x
        self.solid = self.schedule.solid if self._alone(x) else frozenset()
        for at, move in enumerate(self.schedule.moves):
            self.step(move.operation, move.start, move.stop)
            self.finish(at)
        output = self.net.graph.graph.output_node()
        return filled(self._template(output)[0][0], self.whole, self._batch, self.dtype)

    @staticmethod
    def _alone(x: Any) -> bool:
        """Whether nothing but the result is wanted of a run: no gradients, no trace."""
        return isinstance(x, Tensor) and not torch.compiler.is_compiling() and not torch.is_grad_enabled()

    def step(self, number: int, start: int, stop: int) -> None:
        """Computes rows of an operation and keeps them."""
        operation = self.net.operations[number]
        node = operation.nodes[0]
        how = self.how.get(node)
        if not number:
            whole = stop - start == operation.steps
            value = self.x if whole else self.rows[node].band(self.x, start, stop)
        elif isinstance(how, Summing):
            total = how.total(*self._call(node, {how.operand: (start, stop)}))
            if start:
                total = self.load(number, 0, operation.rows) + total
                self.held[number].clear()
            value = total if stop < operation.steps else how.finish(total)
            start, stop = 0, operation.rows
        elif isinstance(how, ByRows):
            bands = {source: (reach.first[start], reach.last[stop - 1]) for source, reach in how.reach.items()}
            value = how.compute(*self._call(node, bands), start, stop)
        else:
            value, start, stop = call(node, *self._call(node, {})), 0, operation.rows
        for before, after in zip(operation.nodes, operation.nodes[1:], strict=False):
            value = self._again(before, after, value, start, stop)
        self.store(number, start, stop, value)

    def _again(self, before: fx.Node, node: fx.Node, value: Any, start: int, stop: int) -> Any:
        """An elementwise operation on what was just computed."""
        how, (args, kwargs) = self.how.get(node), self._call(node, {}, {before: value})
        if kwargs.get("inplace") and not isinstance(node.target, str):
            return node.target(*args, **kwargs)  # nothing else has seen the value
        return how.compute(args, kwargs, start, stop) if isinstance(how, ByRows) else call(node, args, kwargs)

    def store(self, number: int, start: int, stop: int, value: Any) -> None:
        """Keeps rows of an operation's result."""
        if number in self.solid and stop - start < self.net.operations[number].rows:
            # Joined at the end, the map would be held twice. Gradients, and what traces the run, need it so.
            where = self.rows[self.net.operations[number].nodes[0]]
            if not start:
                shape = list(value.shape)
                shape[where.axis] = self.net.operations[number].rows * where.unit
                self.held[number].append((0, 0, value.new_empty(shape)))
            ((_, _, whole),) = self.held[number]
            where.band(whole, start, stop).copy_(value)
            self.held[number] = [(0, stop, whole)]
            return
        self.held[number].append((start, stop, value))

    def load(self, number: int, start: int, stop: int) -> Any:
        """Rows of an operation's result."""
        where = self.rows.get(self.net.operations[number].nodes[0])
        pieces = []
        for begin, end, value in self.held[number]:
            low, high = max(begin, start), min(end, stop)
            if low < high:
                cut = (low, high) != (begin, end) or (number in self.solid and end < self.net.operations[number].rows)
                pieces.append(where.band(value, low - begin, high - begin) if cut and where is not None else value)
        if len(pieces) == 1:
            return pieces[0]
        assert where is not None
        return torch.cat(pieces, where.axis)

    def finish(self, at: int) -> None:
        """Lets go of what isn't needed after a move."""
        for number, row in self.schedule.moves[at].freed:
            self.held[number] = [piece for piece in self.held[number] if piece[1] > row]

    def whole(self, node: fx.Node) -> Any:
        """A node's value, all of it."""
        if node not in self.net.tracking.variable:
            return self._constant(node)
        where = self.rows.get(node)
        return self._band(node, 0, where.count if where is not None else 1)

    def _band(self, node: fx.Node, start: int, stop: int) -> Any:
        """Rows of a value: of a storage, or of a view of one."""
        operation = self.net.operations[self.net.aliases[node].operation]
        if node is operation.nodes[-1]:
            if node in self.rows or node.op == "placeholder":
                return self.load(self.net.aliases[node].operation, start, stop)
            return self.load(self.net.aliases[node].operation, 0, operation.rows)
        how = self.how.get(node)
        if isinstance(how, ByRows):
            bands = {source: (reach.first[start], reach.last[stop - 1]) for source, reach in how.reach.items()}
            return how.compute(*self._call(node, bands), start, stop)
        value = call(node, *self._call(node, {}))
        where = self.rows.get(node)
        return where.band(value, start, stop) if where is not None and stop - start < where.count else value

    def _call(
        self,
        node: fx.Node,
        bands: Mapping[fx.Node, tuple[int, int]],
        known: Mapping[fx.Node, Any] | None = None,
    ) -> tuple[Any, Any]:
        """A node's arguments, with bands of some operands and the others whole."""

        def value(source: fx.Node) -> Any:
            if known is not None and source in known:
                return known[source]
            if source in bands:
                return self._band(source, *bands[source])
            if is_tensor(source) or source.op == "get_attr" or source not in self.net.tracking.variable:
                return self.whole(source)
            return call(source, *self._call(source, bands))  # pieces of a band

        args, kwargs = self._template(node)
        fill = filled(args, value, self._batch, self.dtype), filled(kwargs, value, self._batch, self.dtype)
        return fill[0], dict(fill[1])

    def _constant(self, node: fx.Node) -> Any:
        """What follows from weights alone; computed once in a run."""
        if node not in self.constants:
            if node.op == "get_attr":
                self.constants[node] = self.tensors(str(node.target))
            else:
                args, kwargs = self._call(node, {})
                if not node.all_input_nodes and self.device is not None:
                    kwargs["device"] = self.device
                self.constants[node] = call(node, args, kwargs)
        return self.constants[node]

    def _template(self, node: fx.Node) -> Template:
        return self.templates[node] if self.templates is not None else (node.args, node.kwargs)

    def _batch(self) -> Any:
        return self.x.shape[0]


def tensors_of(module: torch.nn.Module) -> Lookup:
    """The parameters and buffers of a module, by their paths."""

    def lookup(path: str) -> Tensor:
        parent, _, name = path.rpartition(".")
        value = getattr(module.get_submodule(parent), name)
        return value  # type: ignore[no-any-return]

    return lookup
