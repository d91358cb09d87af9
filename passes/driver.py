"""What every pass needs, done once: lint, recompilation, timing, and the difference in operations."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from torch import fx

from sapool.ir.plan import Plan
from sapool.passes.record import Log

Pass = Callable[[fx.GraphModule, Plan, Log], None]
"""A pass finds its places in the graph by what the plan says, rewrites them in place, and logs what it did."""


class Driver:
    """Runs passes over a graph. A pass that breaks the graph is named in the assertion that it trips."""

    def __init__(self, module: fx.GraphModule, plan: Plan) -> None:
        self.module, self.plan, self.log = module, plan, Log()

    def __call__(self, rewrite: Pass) -> None:
        """Runs one pass."""
        self.log.rule = rewrite.__name__
        before, start = operations(self.module), time.perf_counter()
        rewrite(self.module, self.plan, self.log)
        try:
            self.module.graph.lint()
        except RuntimeError as error:
            raise AssertionError(f"the pass {self.log.rule} broke the graph: {error}") from error
        self.module.recompile()
        self.log.ran(time.perf_counter() - start, before, operations(self.module))


def operations(module: fx.GraphModule) -> Counter[str]:
    """How often a graph calls each kind of module, function and method."""
    return Counter(operation(module, node) for node in module.graph.nodes)


def operation(module: fx.GraphModule, node: fx.Node) -> str:
    """What a node calls, as one word: a module's class, a function's name, or the node's kind."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    if node.op in ("call_function", "call_method"):
        return getattr(node.target, "__name__", str(node.target))
    return node.op


def named(module: fx.GraphModule, name: str) -> fx.Node:
    """The node of that name."""
    found: fx.Node = next(node for node in module.graph.nodes if node.name == name)
    return found


def bypass(module: fx.GraphModule, node: fx.Node) -> None:
    """Takes a node out of the graph; its operand takes its place."""
    node.replace_all_uses_with(node.all_input_nodes[0])
    module.graph.erase_node(node)


def stamp(node: fx.Node, rule: str, site: str) -> fx.Node:
    """Marks a node with the rule that made it, and the site it was made for."""
    node.meta["rule"], node.meta["site"] = rule, site
    return node
