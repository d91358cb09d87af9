"""The parts of a network: stem, stages, pools, classifier."""

from __future__ import annotations

from torch import fx

from sapool.analysis.dataflow import module_path
from sapool.ir.plan import Plan


def parts_of(module: fx.GraphModule, plan: Plan) -> dict[str, str]:
    """The part that each node of a graph belongs to, by the node's name."""
    owners = {prefix: name for name, prefixes in plan.parts for prefix in prefixes}
    found = {node: _owner(node, owners) for node in module.graph.nodes}
    known = [node for node, part in found.items() if part]
    parts, current = {}, "stem"
    for node in module.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith("pools."):
            parts[node.name] = ".".join(str(node.target).split(".")[:2])  # the filters of a site are one part
            continue
        # What stands between stages goes with the one before it; the classifier begins behind the last.
        current = found[node] or current
        parts[node.name] = current
        if known and node is known[-1]:
            current = "classifier"
    return parts


def _owner(node: fx.Node, owners: dict[str, str]) -> str | None:
    if node.name in owners:
        return owners[node.name]
    path = module_path(node)
    while path and path not in owners:
        path = path.rpartition(".")[0]
    return owners.get(path)
