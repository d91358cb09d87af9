"""`.svg`: a network's graph as a picture for a paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sapool.report.blocks import Block, Drawer, Drawing
from sapool.report.colours import PLAIN, colours
from sapool.report.layout import HEIGHT, PITCH, WIDTH, Place
from sapool.report.payload import labels
from sapool.report.templates import rendered

if TYPE_CHECKING:
    from sapool.inspection.history import History

TITLE, PAD, BETWEEN = 24, 16, 30
"""Of a stage's frame: the height of its title, the room around its nodes, and the distance to the next frame."""
_KEY = 20
_FAR = TITLE + 2 * PAD + BETWEEN + 2 * HEIGHT + PITCH
"""Between two nodes that no other can stand between."""


def picture(past: History, title: str) -> str:
    """A network's own graph as an SVG document: stages in frames, nodes in the colours of the rules that made them.

    Args:
        past: its graphs.
        title: of the picture.
    """
    drawing, shades = Drawer().draw(past.after), colours(past.rules)
    tops = _tops(drawing)
    left = min(block.layout.left for block in drawing.blocks) - PAD - PITCH
    right = max(block.layout.right for block in drawing.blocks) + PAD + PITCH
    used = {node.rule for node in past.after.nodes}
    key = [(rule, colour) for rule, colour in shades.items() if rule in used]
    return rendered(
        "graph.svg.j2",
        title=title,
        left=left,
        width=right - left,
        height=tops[-1] + _KEY * (len(key) + 1),
        frames=[
            {"stage": block.stage, "top": top, "height": _height(block), "count": len(block.nodes)}
            for block, top in zip(drawing.blocks, tops, strict=False)
        ],
        edges=list(_edges(drawing, tops)),
        nodes=[
            {
                "x": x - WIDTH // 2,
                "y": y - HEIGHT // 2,
                "colour": shades.get(node.rule, PLAIN),
                "lines": labels(node),
                "says": f"{node.name} {node.detail}".strip(),
            }
            for block, top in zip(drawing.blocks, tops, strict=False)
            for node in block.nodes
            for x, y in [_at(block, top, node.name)]
        ],
        key=[(rule, colour, tops[-1] + _KEY * at) for at, (rule, colour) in enumerate(key)],
        box={"width": WIDTH, "height": HEIGHT},
        pad=PAD,
    )


def _height(block: Block) -> int:
    return TITLE + PAD + block.layout.bottom + HEIGHT // 2 + PAD


def _tops(drawing: Drawing) -> list[int]:
    """The top of each frame, and then the end of the last."""
    tops = [0]
    for block in drawing.blocks:
        tops.append(tops[-1] + _height(block) + BETWEEN)
    return tops


def _at(block: Block, top: int, name: str) -> Place:
    x, y = block.layout.places[name]
    return x, y + top + TITLE + PAD + HEIGHT // 2


def _edges(drawing: Drawing, tops: list[int]) -> Iterator[str]:
    """Paths from the bottom of a box to the top of another."""
    places: dict[str, Place] = {}
    for block, top in zip(drawing.blocks, tops, strict=False):
        places |= {node.name: _at(block, top, node.name) for node in block.nodes}
    for block, top in zip(drawing.blocks, tops, strict=False):
        down = top + TITLE + PAD + HEIGHT // 2
        for source, user in block.edges:
            bends = [(x, y + down) for x, y in block.layout.bends.get((source, user), ())]
            yield path([places[source], *bends, places[user]])
    beside = max(block.layout.right for block in drawing.blocks) + PAD
    for source, user in drawing.crossing:
        (_, top), (_, bottom) = places[source], places[user]
        # What goes past other nodes goes beside them.
        bends = [(beside, top + PITCH), (beside, bottom - PITCH)] if bottom - top > _FAR else []
        yield path([places[source], *bends, places[user]])


def path(points: list[Place]) -> str:
    """An SVG path through points, smooth at each: it leaves and enters all of them vertically."""
    (x, y), last = (points[0][0], points[0][1] + HEIGHT // 2), points[-1]
    drawn = [f"M{x} {y}"]
    for at, (to_x, to_y) in enumerate(points[1:], 1):
        end = to_y - HEIGHT // 2 if at == len(points) - 1 else to_y
        middle = (y + end) // 2
        drawn.append(f"C{x} {middle} {to_x} {middle} {to_x} {end}")
        x, y = to_x, end
    assert (x, y) == (last[0], last[1] - HEIGHT // 2)
    return "".join(drawn)
