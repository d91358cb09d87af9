"""A network's graphs as drawings: stages laid out one under the other, what is the same in several of them once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sapool.report.layout import Edge, Layout, lay_out

if TYPE_CHECKING:
    from sapool.inspection.graph import Node, Snapshot


@dataclass(frozen=True)
class Block:
    """A stage as it is drawn.

    Attributes:
        stage: its name.
        nodes: of it, in order of execution.
        edges: within it.
        layout: where they are.
    """

    stage: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    layout: Layout


@dataclass(frozen=True)
class Drawing:
    """A graph as it is drawn: blocks from top to bottom.

    Attributes:
        blocks: its stages.
        crossing: edges from one to another.
    """

    blocks: tuple[Block, ...]
    crossing: tuple[Edge, ...]


class Drawer:
    """Draws graphs that share most of their stages; each of those is laid out once."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[tuple[str, ...], tuple[Edge, ...]], Layout] = {}

    def draw(self, graph: Snapshot) -> Drawing:
        """Draws a graph, its stages in the order in which they begin."""
        stage = {node.name: node.stage for node in graph.nodes}
        members: dict[str, list[Node]] = {}
        for node in graph.nodes:
            members.setdefault(node.stage, []).append(node)
        inner: dict[str, list[Edge]] = {name: [] for name in members}
        crossing = []
        for source, user in graph.edges:
            if stage[source] == stage[user]:
                inner[stage[source]].append((source, user))
            else:
                crossing.append((source, user))
        blocks = (self._block(name, nodes, inner[name]) for name, nodes in members.items())
        return Drawing(tuple(blocks), tuple(crossing))

    def _block(self, name: str, nodes: Sequence[Node], edges: Sequence[Edge]) -> Block:
        key = tuple(node.name for node in nodes), tuple(edges)
        if key not in self._layouts:
            self._layouts[key] = lay_out(*key)
        return Block(name, tuple(nodes), key[1], self._layouts[key])
