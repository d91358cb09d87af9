"""What there is to schedule: an unrolled graph as operations that read and write rows of storages.

Views cost nothing and belong to what they are views of. An elementwise operation on a result that nothing else reads
is done where that result lies, and becomes part of the operation before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from torch import Tensor, fx

from sapool.cost.assumptions import Assumptions
from sapool.cost.lifetimes import ELEMENTWISE, is_depthwise, operation_name, storage_of
from sapool.schedule.by_rows.pointwise import is_aligned, plain_name
from sapool.schedule.by_rows.rows import ByRows, Reach, Summing, is_tensor, operands, shape_of
from sapool.schedule.by_rows.tracking import Tracking, track

ACCUMULATOR = 4
"""Bytes of a running sum's entry: what adds up int8 values row after row is an int32, as on every device."""


@dataclass(eq=False)
class Operation:
    """Something that is computed, row by row or at once, into a storage of its own.

    Attributes:
        name: of its first node.
        part: the model's node that it belongs to.
        nodes: what is done, in order: an operation, and elementwise ones in place.
        rows: rows of its result that other operations can wait for.
        steps: rows by which it makes progress: those of its result; for running sums those of the operand; 1 for what
            can't be divided.
        row_size: elements of one row of its result.
        reads: for each operation (by its number) whose result it reads, which rows each of its steps needs.
        over: operations whose storage it may write its result into, where that storage is needed no longer.
        depthwise: whether it is a depthwise convolution, which overwrites other rows than it reads last.
        scratch: elements that computing takes beside operands and results: at any time, and for each row besides.
        summing: whether it is a running sum.
        reason: why it isn't computed by rows, or "".
    """

    name: str
    part: str
    nodes: list[fx.Node]
    rows: int
    steps: int
    row_size: int
    reads: dict[int, Reach]
    over: tuple[int, ...] = ()
    depthwise: bool = False
    scratch: tuple[int, int] = (0, 0)
    summing: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Alias:
    """A value that lies in an operation's storage.

    Attributes:
        operation: its number.
        row: the value's first row is that row of the storage; None where its rows aren't the storage's.
        whole: whether the value is all that the storage holds.
    """

    operation: int
    row: int | None
    whole: bool


@dataclass
class Network:
    """The operations of a graph in the order of its nodes; number 0 is the network's input.

    Attributes:
        outputs: numbers of the operations whose results the network returns.
        aliases: where each variable tensor lies.
        tracking: how the graph's nodes work by rows.
    """

    graph: fx.GraphModule
    tracking: Tracking
    operations: list[Operation] = field(default_factory=list)
    outputs: frozenset[int] = frozenset()
    aliases: dict[fx.Node, Alias] = field(default_factory=dict)


def network(graph: fx.GraphModule, assumptions: Assumptions) -> Network:
    """The operations of an unrolled graph."""
    return _Builder(graph, assumptions).build()


class _Builder:
    def __init__(self, graph: fx.GraphModule, assumptions: Assumptions) -> None:
        self.tracking = track(graph)
        self.assumptions = assumptions
        self.net = Network(graph, self.tracking)
        self.storages: dict[int, int] = {}
        self.returned = set(graph.graph.output_node().all_input_nodes)

    def build(self) -> Network:
        for node in self.net.graph.graph.nodes:
            value = node.meta.get("value")
            if node.op == "output" or node not in self.tracking.variable or not isinstance(value, Tensor):
                continue
            if self._is_view(node, value):
                self._alias(node)
            elif not self._joins(node):
                self._add(node, value)
            self.storages[storage_of(value)] = self.net.aliases[node].operation
        self.net.outputs = frozenset(self.net.aliases[n].operation for n in self.returned if n in self.net.aliases)
        return self.net

    def _is_view(self, node: fx.Node, value: Tensor) -> bool:
        # What works in place shares a storage too, but computes.
        computes = is_aligned(operation_name(node)) and not _returns_operand(node)
        return node.op != "placeholder" and not computes and storage_of(value) in self.storages

    def _alias(self, node: fx.Node) -> None:
        source, how = self._base(node), self.tracking.how.get(node)
        row = None
        if isinstance(how, ByRows) and source.row is not None:
            (reach,) = how.reach.values()
            row = source.row + reach.first[0]
        whole = source.whole and prod(shape_of(node)) == self._size(source.operation)
        self.net.aliases[node] = Alias(source.operation, row, whole)

    def _size(self, number: int) -> int:
        operation = self.net.operations[number]
        return operation.rows * operation.row_size

    def _base(self, node: fx.Node) -> Alias:
        source = node.all_input_nodes[0]
        return self.net.aliases[source] if is_tensor(source) else self._base(source)

    def _joins(self, node: fx.Node) -> bool:
        """Makes an elementwise operation part of the one before it, where that is the same storage at the same time."""
        if not is_aligned(operation_name(node)) and operation_name(node) != "batch_norm":
            return False
        sources = [source for source in node.all_input_nodes if source in self.net.aliases]
        if len(sources) != 1 or len(sources[0].users) > 1 or sources[0] in self.returned or node.op == "placeholder":
            return False
        alias, how = self.net.aliases[sources[0]], self.tracking.how.get(node)
        operation = self.net.operations[alias.operation]
        same = operation.nodes[-1] is sources[0] and shape_of(sources[0]) == shape_of(node)
        if not same or sources[0].op == "placeholder" or not (isinstance(how, ByRows) or operation.steps == 1):
            return False
        if operation.summing:
            return False
        operation.nodes.append(node)
        self.net.aliases[node] = alias
        return True

    def _add(self, node: fx.Node, value: Tensor) -> None:
        how, where = self.tracking.how.get(node), self.tracking.rows.get(node)
        rows = where.count if where is not None else 1
        steps = rows if isinstance(how, ByRows) or node.op == "placeholder" else 1
        if isinstance(how, Summing):
            steps = self.tracking.rows[how.operand].count
        reads: dict[int, Reach] = {}
        for source in operands(node):
            if source in self.net.aliases:
                self._read(reads, source, steps, how)
        depthwise = self.assumptions.inplace_depthwise and is_depthwise(node)
        operation = Operation(
            name=node.name,
            part=node.meta["part"],
            nodes=[node],
            rows=rows,
            steps=max(steps, 1),
            row_size=value.numel() // rows if rows else 0,
            reads=reads,
            over=self._over(node, depthwise=depthwise),
            depthwise=depthwise,
            scratch=self._scratch(node),
            summing=isinstance(how, Summing),
            reason=self.tracking.reasons.get(node, ""),
        )
        self.net.aliases[node] = Alias(len(self.net.operations), 0 if where is not None else None, whole=True)
        self.net.operations.append(operation)

    def _read(self, reads: dict[int, Reach], source: fx.Node, steps: int, how: ByRows | Summing | None) -> None:
        alias = self.net.aliases[source]
        operand = self.net.operations[alias.operation]
        reach = Reach.whole(steps, operand.rows)
        if alias.row is not None:
            if isinstance(how, ByRows) and source in how.reach:
                reach = how.reach[source].shifted(alias.row)
            elif isinstance(how, Summing) and source is how.operand:
                reach = Reach.same(steps).shifted(alias.row)
        known = reads.get(alias.operation)
        if known is not None:  # read twice: both stretches, and what lies between
            reach = Reach(
                tuple(map(min, known.first, reach.first)), tuple(map(max, known.last, reach.last))
            )  # fmt: skip
        reads[alias.operation] = reach

    def _over(self, node: fx.Node, *, depthwise: bool) -> tuple[int, ...]:
        name = plain_name(operation_name(node))
        if not (name in ELEMENTWISE or depthwise):
            return ()
        found = []
        for source in node.all_input_nodes:
            alias = self.net.aliases.get(source)
            if alias is None or not alias.whole:
                continue
            shape, result = shape_of(source), shape_of(node)
            if shape == result or (depthwise and prod(result) <= prod(shape)):
                found.append(alias.operation)
        return tuple(dict.fromkeys(found))

    def _scratch(self, node: fx.Node) -> tuple[int, int]:
        """Elements beside operands and results: at any time, and for each row besides."""
        if operation_name(node) != "scaled_dot_product_attention":
            return 0, 0
        query, key = node.all_input_nodes[:2]
        keys, where = shape_of(key)[-2], self.tracking.rows.get(query)
        if self.assumptions.attention == "streaming":
            return keys, 0
        heads, queries = prod(shape_of(query)[:-2]), shape_of(query)[-2]
        if where is not None and node in self.tracking.how:
            return 0, heads * keys * where.unit
        return heads * keys * queries, 0


def _returns_operand(node: fx.Node) -> bool:
    """Whether an elementwise operation has nothing to do, as dropout in eval mode, and says so by its result."""
    return plain_name(operation_name(node)) in (
        "dropout",
        "alpha_dropout",
        "contiguous",
        "to",
        "float",
        "half",
        "double",
    )
