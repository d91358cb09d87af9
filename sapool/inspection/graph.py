"""A graph as a picture needs it: nodes with everything that is said of them, and edges. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapool.passes.record import Refusal, Rewrite


@dataclass(frozen=True)
class Node:
    """A node of a graph between two passes.

    Attributes:
        name: in the graph.
        op: what it calls, in a word: `Conv2d`, `add`.
        target: the path of its module, or "".
        detail: the module's own arguments, as it prints them, or "".
        stage: the part of the network that it belongs to; a pool belongs to its site's.
        rule: the pass that made it or changed it, or "".
        site: for which site of the plan.
        shape: of its result for the plan's image; none where it isn't one tensor, or can't be computed then.
    """

    name: str
    op: str
    target: str = ""
    detail: str = ""
    stage: str = ""
    rule: str = ""
    site: str = ""
    shape: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """Of its result; a byte each where activations are int8."""
        return prod(self.shape) if self.shape else 0


@dataclass(frozen=True)
class Snapshot:
    """A graph at one moment.

    Attributes:
        title: what had been done: a pass's name, or `backbone`.
        nodes: in order of execution.
        edges: (source, user), by name.
        rewrites, refusals: what the pass changed, and what it left alone and why.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    rewrites: tuple[Rewrite, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def looks_like(self, other: Snapshot) -> bool:
        """Whether both are the same graph."""
        return self.nodes == other.nodes and self.edges == other.edges

    def about(self, target: str) -> str | None:
        """The name of the node that a record of a pass is about; None where there is none, or none any more.

        Args:
            target: a node's name, a module's path, or a site's name, as passes report.
        """
        if found := self._named.get(target):
            return found
        inside = (node.name for node in self.nodes if node.target.startswith(f"{target}."))
        return next(inside, None)

    @cached_property
    def _named(self) -> dict[str, str]:
        """Nodes by what they are called: a name of their own goes before a module's path, and that before a stage's."""
        by_path: dict[str, str] = {}
        by_stage: dict[str, str] = {}
        for node in self.nodes:
            by_path.setdefault(node.target, node.name)
            by_stage.setdefault(node.stage, node.name)
        by_path.pop("", None)
        return by_stage | by_path | {node.name: node.name for node in self.nodes}


def changed(before: Sequence[Node], after: Sequence[Node]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Names of the nodes that went, that came, and that became others under their name.

    A node has become another where its operation or its module's arguments differ; only its shape follows from others.
    """
    old, new = {node.name: node for node in before}, {node.name: node for node in after}
    both = old.keys() & new.keys()
    other = {name for name in both if (old[name].op, old[name].detail) != (new[name].op, new[name].detail)}
    return frozenset(old.keys() - both), frozenset(new.keys() - both), frozenset(other)
