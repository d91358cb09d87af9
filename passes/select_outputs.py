"""Outputs: stage maps for detectors in place of logits.

A feature map is what its stage hands on in the end, a pool behind it included. So `expose_features` makes each map an
output at the start, where pools that are inserted take its place, and `select_outputs` chooses in the end.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from sapool.errors import PlanError
from sapool.ir.plan import Plan
from sapool.passes.record import Log


def expose_features(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Makes the feature maps a second output, until `select_outputs`."""
    nodes = {node.name: node for node in module.graph.nodes}
    output = module.graph.output_node()
    output.args = ((output.args[0], [nodes[node] for _, node in plan.features]),)


def select_outputs(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Keeps the logits or the wanted features of what was exposed, and names the features' nodes."""
    output = module.graph.output_node()
    exposed: Any = output.args[0]
    logits, features = exposed
    for (name, _), node in zip(plan.features, features, strict=True):
        node.meta["feature"] = name
    if not plan.options.features_only:
        output.args = (logits,)
        log.refused("", "output", "the model returns logits")
        return
    output.args = ([features[index] for index in plan.outputs],)
    output.type = None  # the backbone's annotation was of logits
    log.rewrote("", "output", "logits", ", ".join(plan.features[index][0] for index in plan.outputs))


def outputs_are_selected(module: fx.GraphModule, plan: Plan) -> None:
    """Raises PlanError where the graph returns anything but what was planned."""
    returned: Any = module.graph.output_node().args[0]
    if not plan.options.features_only:
        if not isinstance(returned, fx.Node):
            raise PlanError("", "options.features_only", "the graph returns more than logits")
        return
    names = [node.meta.get("feature") for node in returned]
    wanted = [plan.features[index][0] for index in plan.outputs]
    if names != wanted:
        raise PlanError("", "options.out_indices", f"the graph returns {names}, not {wanted}")
