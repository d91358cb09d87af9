"""Small graphs as records, for pictures of them: nothing is compiled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from sapool.inspection.graph import Node, Snapshot
from sapool.inspection.history import History

HOSTILE = '</script><script>alert("1")</script><img src=x onerror=alert(1)>\x1b[2J\u202e'


@dataclass(frozen=True)
class Record:
    """What a pass reports, of either kind."""

    rule: str
    site: str
    target: str
    before: str = ""
    after: str = ""
    reason: str = ""


def block(stage: str, source: str, side: int, *, pooled: bool = False) -> tuple[list[Node], list[tuple[str, str]]]:
    """A residual block behind a node, with a pool at its end or without."""
    shape = (1, 8, side, side)
    names = [f"{stage}_{what}" for what in ("conv1", "relu1", "conv2", "add", "relu2")]
    ops = ("Conv2d", "ReLU", "Conv2d", "add", "ReLU")
    stride = "" if pooled else ", stride=(2, 2)"
    rule = "restride" if pooled else ""
    nodes = [
        Node(
            name,
            op,
            f"{stage}.{name}" if op == "Conv2d" else "",
            f"8, 8{stride if name.endswith('conv1') else ''}" if op == "Conv2d" else "",
            stage,
            rule if name.endswith("conv1") else "",
            stage if rule and name.endswith("conv1") else "",
            shape,
        )
        for name, op in zip(names, ops, strict=True)
    ]
    edges = [(source, names[0]), *pairwise(names), (source, names[3])]
    if pooled:
        pool = Node(
            f"pools_{stage}", "LIP", f"pools.{stage}", "", stage, "insert_pools", stage, (1, 8, side // 2, side // 2)
        )
        nodes.append(pool)
        edges.append((names[4], pool.name))
    return nodes, edges


def graph(title: str, *, pooled: bool, stages: int = 2, name: str = "", **records: tuple[Record, ...]) -> Snapshot:
    """An input, residual stages, and a classifier."""
    nodes, edges, source, side = [Node("x", "placeholder", stage="stem", shape=(1, 3, 32, 32))], [], "x", 32
    for number in range(1, stages + 1):
        more, links = block(f"stage{number}", source, side, pooled=pooled)
        nodes, edges, source, side = [*nodes, *more], [*edges, *links], more[-1].name, side // 2
    nodes += [
        Node("fc", "Linear", "fc", name, "classifier", shape=(1, 10)),
        Node("output", "output", stage="classifier"),
    ]
    edges += [(source, "fc"), ("fc", "output")]
    return Snapshot(title, tuple(nodes), tuple(edges), **records)  # type: ignore[arg-type]


def past(stages: int = 2, name: str = "") -> History:
    """A backbone, and what pooling makes of it in one pass; another one leaves something alone."""
    pools = tuple(
        Record("insert_pools", f"stage{n}", f"pools.stage{n}", "after", "lip, stride 2") for n in range(1, stages + 1)
    )
    left = (
        Record("restride", "stem", "stem", reason="keeps its own stride of 4"),
        Record("restride", "", "fc", reason=f"its weights differ {name}"),
    )
    return History(
        (
            graph("backbone", pooled=False, stages=stages, name=name),
            graph("insert_pools", pooled=True, stages=stages, name=name, rewrites=pools),
            graph("restride", pooled=True, stages=stages, name=name, refusals=left),
        )
    )
