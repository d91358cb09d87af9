"""Outputs: stage maps for detectors in place of logits."""

from __future__ import annotations

from typing import Any

from torch import fx

from sapool.ir.plan import Plan
from sapool.passes.record import Log


def mark_features(module: fx.GraphModule, plan: Plan) -> None:
    """Makes each feature a second output for the time of the rewriting, so that a pool behind it takes its place."""
    nodes = {node.name: node for node in module.graph.nodes}
    output = module.graph.output_node()
    output.args = ((output.args[0], [nodes[node] for _, node in plan.features]),)


def select_outputs(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Keeps the logits or the wanted features of what `mark_features` exposed, and names the features' nodes."""
    output = module.graph.output_node()
    exposed: Any = output.args[0]
    logits, features = exposed
    for (name, _), node in zip(plan.features, features, strict=True):
        node.meta["feature"] = name
    if not plan.features_only:
        output.args = (logits,)
        log.refused("", "output", "the model returns logits")
        return
    wanted = plan.out_indices if plan.out_indices is not None else range(len(features))
    output.args = ([features[index] for index in wanted],)
    output.type = None  # the backbone's annotation was of logits
    log.rewrote("", "output", "logits", ", ".join(plan.features[index][0] for index in wanted))
