"""Cutting an unrolled graph's attention by heads. Exact: the same linear maps, one after the other.

A projection's rows belong to one head each, and heads don't see each other. So groups of heads can be projected and
attend to each other in turn, and only their outputs are joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg
from torch.nn import functional as F

from sapool.cost.lifetimes import operation_name
from sapool.poolings.attention import rows_of_heads
from sapool.schedule.by_rows.rows import bind, is_tensor, shape_of
from sapool.schedule.heads.groups import Groups

_ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@dataclass(frozen=True)
class Attention:
    """Self-attention in an unrolled graph whose queries, keys and values are one projection.

    Attributes:
        tokens: (N, L, d).
        linear: their projection, (N, L, 3d).
        attend: the attention, of (N, h, L, width).
        joined: the heads' outputs side by side, (N, L, d).
        heads, width: h and d / h.
    """

    tokens: fx.Node
    linear: fx.Node
    attend: fx.Node
    joined: fx.Node
    heads: int
    width: int


def attentions(graph: fx.GraphModule) -> list[Attention]:
    """The attention that can be cut by heads, in the order of the graph."""
    found = (_attention(node) for node in graph.graph.nodes if operation_name(node) == "scaled_dot_product_attention")
    return [attention for attention in found if attention is not None]


def split(graph: fx.GraphModule, groups: Sequence[Groups]) -> fx.GraphModule:
    """The graph with each attention's heads in groups; itself where every attention has one.

    Args:
        graph: unrolled; stays as it is.
        groups: for each of `attentions(graph)`.
    """
    if all(len(counts) == 1 for counts in groups):
        return graph
    copied, twins = fx.Graph(), dict[fx.Node, fx.Node]()
    copied.output(copied.graph_copy(graph.graph, twins))
    result = fx.GraphModule(graph, copied, class_name="Unrolled")
    for number, (attention, counts) in enumerate(zip(attentions(result), groups, strict=True)):
        if len(counts) > 1:
            _split(copied, attention, counts, f"heads_{number}")
    copied.lint()
    return result


def _attention(attend: fx.Node) -> Attention | None:
    """What an attention is made of, from its scores back to its tokens and forward to its joined heads."""
    given = bind(_ATTENTION, attend.args, attend.kwargs, attn_mask=None, is_causal=False)
    items = [given[name] for name in _ATTENTION[:3]]
    if given["attn_mask"] is not None or given["is_causal"] or any(operation_name(item) != "_item" for item in items):
        return None
    if [item.args[1] for item in items] != [0, 1, 2] or len({item.args[0] for item in items}) > 1:
        return None
    back = list(_back(items[0].args[0]))
    names = [operation_name(node) for node in back]
    if names not in (["unbind", "permute", view, "linear"] for view in ("view", "reshape")):
        return None
    unbind, permute, view, linear = back
    forward = [node for node in _forward(attend) if operation_name(node) != "__getitem__"]
    shape = shape_of(view)
    known = (
        len(shape) == 5
        and shape[2] == 3
        and tuple(_numbers(permute)) == (2, 0, 3, 1, 4)
        and _numbers(unbind) in ([], [0])
        and [operation_name(node) for node in forward] == ["transpose", "reshape"]
        and sorted(_numbers(forward[0])) == [1, 2]
        and tuple(shape_of(forward[1])) == (*shape[:2], shape[3] * shape[4])
    )
    tokens = bind(("input",), linear.args, linear.kwargs)["input"]
    return Attention(tokens, linear, attend, forward[1], *shape[3:]) if known and is_tensor(tokens) else None


def _back(node: Any) -> Iterator[fx.Node]:
    """A node, and what each reads first, as long as nothing else reads that."""
    while isinstance(node, fx.Node):
        yield node
        if operation_name(node) == "linear" or not node.args:
            return
        node = node.args[0]
        if isinstance(node, fx.Node) and len(node.users) > 1:
            return


def _forward(node: fx.Node) -> Iterator[fx.Node]:
    """What reads a node, and what alone reads that, up to a reshape."""
    while len(node.users) == 1 and operation_name(node) != "reshape":
        (node,) = node.users
        yield node


def _numbers(node: fx.Node) -> list[int]:
    """The dimensions that an operation is given."""
    given: list[Any] = [*node.args[1:], *node.kwargs.values()]
    flat = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    return [d % len(shape_of(node.args[0])) for d in flat]


def _split(graph: fx.Graph, found: Attention, groups: Groups, name: str) -> None:
    parts, first = [], 0
    with graph.inserting_before(found.attend):
        out = _Writer(graph, found, name)
        for at, count in enumerate(groups):
            places = rows_of_heads(found.heads * found.width, found.heads, first, first + count)
            if at < len(groups) - 1:
                words = ((1, "key"), (2, "value"), (0, "query"))  # queries last: they come by rows
                key, value, query = (out.projected([places[of]], count, f"{word}_{at}") for of, word in words)
            else:
                # Together, so that each row of tokens can be let go when it has been read.
                three = out.projected(places, count, f"projection_{at}")
                query, key, value = (out.write("__getitem__", three, of) for of in range(3))
            parts.append(out.attended(query, key, value, count, f"attention_{at}"))
            first += count
        batch, length = shape_of(found.tokens)[:2]
        joined = out.write("reshape", out.write(torch.cat, parts, 2, name="joined"), batch, length, -1)
    found.joined.replace_all_uses_with(joined)
    _erase(graph, found.joined)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Removes what nothing reads any more."""
    if not node.users:
        sources = node.all_input_nodes
        graph.erase_node(node)
        for source in sources:
            _erase(graph, source)


class _Writer:
    """Writes nodes with their values, as the unrolling does."""

    def __init__(self, graph: fx.Graph, found: Attention, name: str) -> None:
        self.graph, self.found, self.name = graph, found, name

    def write(self, target: Any, *args: Any, macs: int = 0, name: str = "", **kwargs: Any) -> fx.Node:
        """A node that calls a function, or a method by its name."""
        method = isinstance(target, str)
        node = self.graph.create_node(
            "call_method" if method else "call_function", target, args, kwargs, f"{self.name}_{name}" if name else None
        )
        given, named = map_arg((args, kwargs), lambda source: source.meta["value"])
        with torch.no_grad():
            value = (getattr(torch.Tensor, target) if method else target)(*given, **named)
        node.meta.update(part=self.found.attend.meta["part"], value=value, macs=macs)
        return node

    def projected(self, places: Sequence[slice], count: int, name: str) -> fx.Node:
        """Some heads' queries, keys or values, (N, count, L, width), or all three in front of each other."""
        linear, (batch, length) = self.found.linear, shape_of(self.found.tokens)[:2]
        given = bind(("input", "weight", "bias"), linear.args, linear.kwargs, bias=None)
        cut = [
            [self.write("narrow", of, 0, place.start, place.stop - place.start) for place in places]
            for of in (given["weight"], given["bias"])
            if of is not None
        ]
        weights = [rows[0] if len(rows) == 1 else self.write(torch.cat, rows) for rows in cut]
        macs = linear.meta["macs"] * len(places) * count // (3 * self.found.heads)
        y = self.write(F.linear, self.found.tokens, *weights, macs=macs, name=name)
        if len(places) == 1:
            return self.write("transpose", self.write("view", y, batch, length, count, self.found.width), 1, 2)
        y = self.write("view", y, batch, length, len(places), count, self.found.width)
        return self.write("permute", y, 2, 0, 3, 1, 4)

    def attended(self, query: fx.Node, key: fx.Node, value: fx.Node, count: int, name: str) -> fx.Node:
        """Their attention, (N, L, count, width)."""
        attend = self.found.attend
        macs, further = attend.meta["macs"] * count // self.found.heads, attend.args[3:]
        named = {key_: of for key_, of in attend.kwargs.items() if key_ not in _ATTENTION[:3]}
        y = self.write(attend.target, query, key, value, *further, macs=macs, name=name, **named)
        return self.write("transpose", y, 1, 2)
