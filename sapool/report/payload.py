"""What a page's script reads of a network: plain data, what several steps share once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sapool.report.blocks import Block, Drawer, Drawing
from sapool.report.colours import colours
from sapool.report.layout import HEIGHT, PITCH, WIDTH

if TYPE_CHECKING:
    from sapool.inspection.graph import Node, Snapshot
    from sapool.inspection.history import History

_MANY = 150
"""Beyond so many nodes a graph's stages are folded at first."""


def graph_data(past: History) -> dict[str, Any]:
    """A network's graphs, from its backbone's to its own, with the places of all nodes.

    Returns:
        `nodes`: every state that a node has had, once; `blocks`: every stage that was drawn, once, its nodes by number;
        `steps`: what each pass left: its blocks, the edges between them, what it changed and what it left alone.
    """
    table, drawer = _Table(), Drawer()
    steps = [table.step(taken, drawer.draw(taken), known) for taken, known in _told(past)]
    shades = colours(past.rules)
    return {
        "box": {"width": WIDTH, "height": HEIGHT, "pitch": PITCH},
        "nodes": table.nodes,
        "blocks": table.blocks,
        "steps": steps,
        "colours": shades,
        "folded": len(past.after.nodes) > _MANY,
    }


def _told(past: History) -> list[tuple[Snapshot, Snapshot]]:
    """Each step, and the graph whose nodes its records speak of: what came of it, or what was there before."""
    return list(zip(past.snapshots, [past.before, *past.snapshots[:-1]], strict=True))


class _Table:
    """Numbers nodes and blocks as they come."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.blocks: list[dict[str, Any]] = []
        self._numbers: dict[Node, int] = {}
        self._places: dict[tuple[str, tuple[int, ...], int], int] = {}

    def step(self, taken: Snapshot, drawing: Drawing, earlier: Snapshot) -> dict[str, Any]:
        numbers = [self._block(block) for block in drawing.blocks]
        return {
            "title": taken.title,
            "blocks": numbers,
            "crossing": [list(edge) for edge in drawing.crossing],
            "rewrites": [
                {
                    "node": _about(r.target, taken, earlier),
                    "site": r.site,
                    "target": r.target,
                    "before": r.before,
                    "after": r.after,
                }
                for r in taken.rewrites
            ],
            "refusals": [
                {"node": _about(r.target, taken, earlier), "site": r.site, "target": r.target, "reason": r.reason}
                for r in taken.refusals
            ],
        }  # fmt: skip

    def _block(self, block: Block) -> int:
        members = tuple(self._node(node) for node in block.nodes)
        key = block.stage, members, id(block.layout)
        if key not in self._places:
            self._places[key] = len(self.blocks)
            layout, at = block.layout, {node.name: number for node, number in zip(block.nodes, members, strict=True)}
            self.blocks.append(
                {
                    "stage": block.stage,
                    "left": layout.left,
                    "right": layout.right,
                    "bottom": layout.bottom,
                    "nodes": [[at[name], *place] for name, place in layout.places.items()],
                    "edges": [
                        [
                            at[source],
                            at[user],
                            *(side for bend in layout.bends.get((source, user), ()) for side in bend),
                        ]
                        for source, user in block.edges
                    ],
                }
            )
        return self._places[key]

    def _node(self, node: Node) -> int:
        if node not in self._numbers:
            self._numbers[node] = len(self.nodes)
            self.nodes.append(_fields(node))
        return self._numbers[node]


def _fields(node: Node) -> dict[str, Any]:
    said = {
        "name": node.name,
        "op": node.op,
        "target": node.target,
        "detail": node.detail,
        "stage": node.stage,
        "rule": node.rule,
        "site": node.site,
        "shape": "×".join(map(str, node.shape)),
        "elements": node.elements,
    }
    return {key: value for key, value in said.items() if value}


def _about(target: str, taken: Snapshot, earlier: Snapshot) -> str | None:
    """The node that a record is about: of the graph that came of the pass, or, where it went, of the one before."""
    return taken.about(target) or earlier.about(target)


def first_operands(graph: Snapshot) -> dict[str, str]:
    """The first operand of each node that has one."""
    feeds: dict[str, str] = {}
    for source, user in graph.edges:
        feeds.setdefault(user, source)
    return feeds


def shortened(text: str, most: int) -> str:
    """A text that fits a box: its middle is left out where it is longer."""
    head = (most - 1) // 2
    return text if len(text) <= most else f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def labels(node: Node) -> Sequence[str]:
    """The two lines of a node's box."""
    return shortened(node.op, 22), shortened("×".join(map(str, node.shape)) or node.target or node.name, 26)
