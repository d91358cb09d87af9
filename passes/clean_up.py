"""Cleaning up: what no output needs goes, from the graph and from the module."""

from __future__ import annotations

from torch import fx

from sapool.ir.plan import Plan
from sapool.passes.record import Log


def clean_up(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Removes dead nodes, and modules that no node calls."""
    for node in reversed(list(module.graph.nodes)):
        # Every operation of the catalogue's backbones is a function of its operands; those that work in place write
        # into values that nothing else reads.
        if not node.users and node.op not in ("placeholder", "output"):
            log.rewrote(node.meta.get("site", ""), node.name, "dead", "nothing")
            module.graph.erase_node(node)
    before = {name for name, _ in module.named_parameters()}
    module.delete_all_unused_submodules()
    gone = before - {name for name, _ in module.named_parameters()}
    if gone:
        log.rewrote("", "modules", f"{len(gone)} parameters of dead modules", "nothing")
