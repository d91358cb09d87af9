"""`dy`: every convolution of the backbone becomes a dynamic one (semantics §4)."""

from __future__ import annotations

from torch import fx, nn

from sapool.errors import PlanError
from sapool.ir.plan import Plan
from sapool.passes.driver import stamp
from sapool.passes.record import Log
from sapool.poolings.dynamic import DynamicConv2d


def make_dynamic(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Replaces convolutions under their own names. Pools were built with the convolutions that they need."""
    if not plan.dynamic:
        return
    for node in module.graph.find_nodes(op="call_module"):
        path = str(node.target)
        conv = module.get_submodule(path)
        if isinstance(conv, DynamicConv2d):  # called a second time
            stamp(node, log.rule, node.meta.get("site", ""))
        if isinstance(conv, nn.Conv2d) and type(conv) is not nn.Conv2d:
            log.refused("", path, f"a {type(conv).__name__} computes its weight or padding by itself")
        elif isinstance(conv, nn.Conv2d):
            dynamic = DynamicConv2d.like(conv)
            module.set_submodule(path, dynamic)
            stamp(node, log.rule, node.meta.get("site", ""))
            log.rewrote("", path, "Conv2d", f"DynamicConv2d, {len(dynamic.weight)} kernels")
    for site in plan.sites:
        if site.pool is not None and not any(
            isinstance(m, DynamicConv2d) for m in module.get_submodule(site.module).modules()
        ):
            log.refused(site.name, site.module, f"{site.pool.kind} keeps plain convolutions")


def convolutions_are_dynamic(module: fx.GraphModule, plan: Plan) -> None:
    """Raises PlanError where a plain convolution of the backbone is left that should be dynamic."""
    if not plan.dynamic:
        return
    for node in module.graph.find_nodes(op="call_module"):
        if type(module.get_submodule(str(node.target))) is nn.Conv2d:
            raise PlanError("", "dynamic", f"{node.target} is a plain convolution")
