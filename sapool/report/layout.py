"""Where a graph's nodes are drawn: in ranks from top to bottom, after Sugiyama, Tagawa and Toda (1981).

Ranks are longest paths. Edges over several ranks are led through each; those over very many ranks, of which a densely
connected network has thousands, run in lanes beside the graph, one a source. Nodes of a rank are ordered by barycentres
and then pulled straight.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 148, 34
"""Of a node's box, in pixels."""
PITCH = 52
"""From a rank to the next."""
GAP, BEND, LANE = 14, 20, 5
"""Between boxes, beside an edge that passes them, and between lanes."""
_SPAN = 12
"""Edges over more ranks than that take a lane."""
_SWEEPS = 4

Place = tuple[int, int]
Edge = tuple[str, str]


@dataclass(frozen=True)
class Layout:
    """Where nodes and edges are.

    Attributes:
        places: the middle of each node's box by its name; the first node's is at x = 0, the first rank's at y = 0.
        bends: the points that an edge passes between its nodes.
        left, right, bottom: the extent, boxes and lanes included; the top is at -HEIGHT / 2.
    """

    places: Mapping[str, Place]
    bends: Mapping[Edge, tuple[Place, ...]]
    left: int
    right: int
    bottom: int


def lay_out(names: Sequence[str], edges: Sequence[Edge]) -> Layout:
    """Lays a graph out.

    Args:
        names: of its nodes, in an order in which each stands behind those that feed it.
        edges: between them.
    """
    rank = _ranks(names, edges)
    short = [edge for edge in edges if rank[edge[1]] - rank[edge[0]] <= _SPAN]
    ranks, chains = _with_bends(names, short, rank)
    links = [link for chain in chains.values() for link in pairwise(chain)]
    _order(ranks, links)
    x = _straightened(ranks, links)
    origin = x[names[0]] if names else 0.0
    places = {name: (round(x[name] - origin), rank[name] * PITCH) for name in names}
    bends = {
        edge: tuple((round(x[bend] - origin), (rank[edge[0]] + at) * PITCH) for at, bend in enumerate(chain[1:-1], 1))
        for edge, chain in chains.items()
    }
    sides = [side for side, _ in places.values()]
    left = min([*(side - WIDTH // 2 for side in sides), *(p[0] for way in bends.values() for p in way)], default=0)
    right = max([*(side + WIDTH // 2 for side in sides), *(p[0] for way in bends.values() for p in way)], default=0)
    lanes, count = _lanes([edge for edge in edges if edge not in chains], rank)
    for edge, lane in lanes.items():
        beside = right + GAP + lane * LANE
        top, bottom = places[edge[0]][1] + PITCH // 2, places[edge[1]][1] - PITCH // 2
        bends[edge] = ((beside, top), (beside, bottom))
    right += GAP + count * LANE if count else 0
    return Layout(places, bends, left, right, max(rank.values(), default=0) * PITCH + HEIGHT // 2)


def _ranks(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    feeds: dict[str, list[str]] = {name: [] for name in names}
    for source, user in edges:
        feeds[user].append(source)
    rank: dict[str, int] = {}
    for name in names:
        rank[name] = 1 + max((rank[source] for source in feeds[name]), default=-1)
    return rank


def _with_bends(
    names: Sequence[str], edges: Sequence[Edge], rank: Mapping[str, int]
) -> tuple[list[list[Hashable]], dict[Edge, list[Hashable]]]:
    """Nodes and bends rank by rank, and each edge as the chain of what it passes."""
    ranks: list[list[Hashable]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for name in names:
        ranks[rank[name]].append(name)
    chains: dict[Edge, list[Hashable]] = {}
    for source, user in edges:
        bends: list[Hashable] = [(source, user, at) for at in range(rank[source] + 1, rank[user])]
        for at, bend in enumerate(bends, rank[source] + 1):
            ranks[at].append(bend)
        chains[source, user] = [source, *bends, user]
    return ranks, chains


def _order(ranks: list[list[Hashable]], links: Sequence[tuple[Hashable, Hashable]]) -> None:
    """Orders each rank so that few edges cross: by the mean place of what is linked to it, down and up in turn."""
    above, below = _neighbours(links)
    place = {item: float(at) for row in ranks for at, item in enumerate(row)}
    for sweep in range(_SWEEPS):
        linked, rows = (above, ranks) if sweep % 2 == 0 else (below, ranks[::-1])
        for row in rows:
            mean = {item: _mean([place[other] for other in linked.get(item, ())], place[item]) for item in row}
            row.sort(key=mean.__getitem__)
            place.update((item, float(at)) for at, item in enumerate(row))


def _straightened(
    ranks: Sequence[Sequence[Hashable]], links: Sequence[tuple[Hashable, Hashable]]
) -> dict[Hashable, float]:
    """The x of each item: near what it is linked to, in the order of its rank, and apart."""
    above, below = _neighbours(links)
    x = {item: 0.0 for row in ranks for item in row}
    for sweep in range(_SWEEPS):
        linked, rows = (above, ranks) if sweep % 2 == 0 else (below, ranks[::-1])
        for row in rows:
            wanted = [_mean([x[other] for other in linked.get(item, ())], x[item]) for item in row]
            x.update(zip(row, _apart(wanted, [_half(item) for item in row]), strict=True))
    return x


def _half(item: Hashable) -> int:
    """Half of what an item takes of its rank: bends are tuples, nodes are names."""
    return BEND // 2 if isinstance(item, tuple) else (WIDTH + GAP) // 2


def _apart(wanted: Sequence[float], halves: Sequence[int]) -> list[float]:
    """The places nearest to the wanted ones, by least squares, that keep their order and distance.

    Distances taken off, that is isotonic regression, which pooling adjacent violators solves.
    """
    offsets = [0.0]
    for before, after in pairwise(halves):
        offsets.append(offsets[-1] + before + after)
    pools: list[tuple[float, int]] = []  # the sum and the number of what stands together
    for value, offset in zip(wanted, offsets, strict=True) if wanted else ():
        total, count = value - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before_total, before_count = pools.pop()
            total, count = total + before_total, count + before_count
        pools.append((total, count))
    level = [total / count for total, count in pools for _ in range(count)]
    return [value + offset for value, offset in zip(level, offsets, strict=False)]


def _lanes(edges: Sequence[Edge], rank: Mapping[str, int]) -> tuple[dict[Edge, int], int]:
    """A lane for each edge, one for all of a source, such that lanes of one number don't overlap; and how many."""
    ends: dict[str, int] = {}
    for source, user in edges:
        ends[source] = max(ends.get(source, 0), rank[user])
    free: list[int] = []  # from which rank on a lane is free
    lane: dict[str, int] = {}
    for source in sorted(ends, key=lambda name: rank[name]):
        number = next((at for at, until in enumerate(free) if until <= rank[source]), len(free))
        free[number : number + 1] = [ends[source]]
        lane[source] = number
    return {edge: lane[edge[0]] for edge in edges}, len(free)


def _neighbours(
    links: Sequence[tuple[Hashable, Hashable]],
) -> tuple[dict[Hashable, list[Hashable]], dict[Hashable, list[Hashable]]]:
    above: dict[Hashable, list[Hashable]] = {}
    below: dict[Hashable, list[Hashable]] = {}
    for source, user in links:
        above.setdefault(user, []).append(source)
        below.setdefault(source, []).append(user)
    return above, below


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
