"""What every pass needs, done once: lint, verification, timing, the difference in operations, recompilation."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection

from torch import fx

from sapool.analysis.dataflow import operation
from sapool.catalogue.passes import PASSES
from sapool.errors import PlanError
from sapool.ir.plan import Plan
from sapool.passes.record import Log

Pass = Callable[[fx.GraphModule, Plan, Log], None]
"""A pass finds its places in the graph by what the plan says, rewrites them in place, and logs what it did."""

Check = Callable[[fx.GraphModule, Plan], None]
"""Raises PlanError where a graph isn't what the plan says."""

Watcher = Callable[[str, fx.GraphModule, bool], None]
"""Is told of each pass, with the graph as it is then, and whether the pass rewrote something."""


class Driver:
    """Runs passes over a graph, those of other packages in their places. A pass that breaks the graph is named.

    Args:
        module: the graph, rewritten in place.
        plan: what is to be done.
        without: passes that are left out.
        watch: is told of each pass when it has run.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        plan: Plan,
        *,
        without: Collection[str] = (),
        watch: Watcher | None = None,
    ) -> None:
        self.module, self.plan, self.without, self.watch = module, plan, without, watch
        self.log, self.counts = Log(), operations(module)
        self.checks: list[Check] = []
        self._guests = [entry for entry in PASSES.values() if entry.target]

    def __call__(self, rewrite: Pass, holds: Check | None = None) -> None:
        """Runs one pass, and those that follow it directly; what it establishes (`holds`) is verified from now on."""
        name = rewrite.__name__
        if name not in self.without:
            self._run(name, rewrite, holds)
        for entry in self._guests:
            if entry.after == name and entry.name not in self.without:
                self._run(entry.name, PASSES.load(entry.name), None)

    def finish(self) -> Log:
        """Makes the module compute what its graph says; returns what the passes reported."""
        self.module.recompile()
        return self.log

    def _run(self, name: str, rewrite: Pass, holds: Check | None) -> None:
        self.log.rule = name
        start, told = time.perf_counter(), len(self.log.rewrites)
        rewrite(self.module, self.plan, self.log)
        try:
            self.module.graph.lint()
        except RuntimeError as error:
            raise AssertionError(f"the pass {name} broke the graph: {error}") from error
        if holds is not None:
            self.checks.append(holds)
        for check in self.checks:
            try:
                check(self.module, self.plan)
            except PlanError as error:
                raise PlanError(error.site, error.field, f"{error.problem}, after the pass {name}") from None
        before, self.counts = self.counts, operations(self.module)
        self.log.ran(time.perf_counter() - start, before, self.counts)
        if self.watch is not None:
            self.watch(name, self.module, len(self.log.rewrites) > told)


def operations(module: fx.GraphModule) -> Counter[str]:
    """How often a graph calls each kind of module, function and method."""
    return Counter(operation(module, node) for node in module.graph.nodes)


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
