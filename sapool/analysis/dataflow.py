"""Questions about a graph's dataflow, asked of one networkx view of it."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx
from torch import fx


def module_path(node: fx.Node) -> str:
    """The path of the module in whose forward a node was traced, "" for the root's own."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack")
    return str(next(reversed(stack.values()))[0]) if stack else ""


def operation(module: fx.GraphModule, node: fx.Node) -> str:
    """What a node calls, as one word: a module's class, a function's name, or the node's kind."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    if node.op in ("call_function", "call_method"):
        return getattr(node.target, "__name__", str(node.target))
    return node.op


def is_inside(path: str, prefix: str) -> bool:
    """Whether a module path is `prefix` or below it."""
    return path == prefix or path.startswith(prefix + ".")


class Dataflow:
    """A snapshot of which node feeds which.

    Nodes are `fx.Node`s, edges run from a value to its users. The view doesn't follow later changes of the graph.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.order = {node: place for place, node in enumerate(graph.nodes)}
        self.edges: nx.DiGraph[fx.Node] = nx.DiGraph()
        self.edges.add_nodes_from(graph.nodes)
        self.edges.add_edges_from((source, user) for source in graph.nodes for user in source.users)

    def inside(self, prefixes: Iterable[str]) -> list[fx.Node]:
        """The nodes of the modules at `prefixes`, in order of execution."""
        wanted = tuple(prefixes)
        return [node for node in self.order if any(is_inside(module_path(node), prefix) for prefix in wanted)]

    def entry(self, region: list[fx.Node]) -> list[fx.Node]:
        """The nodes outside a region whose values it reads, parameters excepted, in order of execution."""
        members = set(region)
        sources = {
            s for node in region for s in self.edges.predecessors(node) if s not in members and s.op != "get_attr"
        }
        return sorted(sources, key=self.order.__getitem__)

    def exit(self, region: list[fx.Node]) -> list[fx.Node]:
        """The nodes of a region whose values are read outside it, in order of execution."""
        members = set(region)
        return [node for node in region if any(user not in members for user in self.edges.successors(node))]

    def feeds(self, source: fx.Node, sink: fx.Node) -> bool:
        """Whether anything of a node's value reaches another."""
        return nx.has_path(self.edges, source, sink)

    def between(
        self,
        source: fx.Node,
        sink: fx.Node,
        avoiding: Iterable[fx.Node] = (),
        within: Iterable[fx.Node] | None = None,
    ) -> list[fx.Node] | None:
        """The nodes strictly between two on any path that avoids some others, in order; None where there is no path.

        An empty list means that the source feeds the sink directly. With `within`, paths run through those nodes only.
        """
        region = self.edges if within is None else self.edges.subgraph([source, sink, *within])
        view = nx.restricted_view(region, [node for node in avoiding if node in region], [])
        after = nx.descendants(view, source)
        if sink not in after:
            return None
        return sorted(after & nx.ancestors(view, sink), key=self.order.__getitem__)
