"""Inference: attention that window normalisation cancels becomes the average pooling that it is (semantics §6)."""

from __future__ import annotations

from torch import fx

from sapool.catalogue.poolings import POOLINGS
from sapool.ir.plan import Plan
from sapool.ir.site import Site
from sapool.passes.driver import stamp
from sapool.passes.record import Log
from sapool.poolings.window import AvgPool


def cancelled(site: Site) -> bool:
    """Whether a site's attention weighs all pixels of a window alike at the plan's image size, so that it cancels."""
    numbers = site.attention
    if site.pool is None or numbers is None or not numbers.window:
        return False
    if not POOLINGS.load(site.pool.kind).attention_on_patches:
        return False
    return numbers.patch % site.stride == 0 and all(side % numbers.patch == 0 for side in site.map or (0,))


def cancel_attention(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Replaces such pools. Exact for maps whose sides are multiples of the patch, as at the plan's image size."""
    for site in plan.sites:
        if site.pool is None or site.attention is None or not POOLINGS.find(site.pool.kind).takes_modifiers:
            continue
        if not cancelled(site):
            log.refused(site.name, site.module, "its weights differ within a window")
            continue
        if POOLINGS.load(site.pool.kind).local_factor:
            log.refused(site.name, site.module, "its attention cancels, but its local weights don't")
            continue
        module.set_submodule(site.module, AvgPool(site.channels, site.stride))
        for node in module.graph.find_nodes(op="call_module", target=site.module):
            stamp(node, log.rule, site.name)
        was = f"{site.pool.kind}, patch {site.attention.patch}"
        log.rewrote(site.name, site.module, was, f"average pooling, stride {site.stride}")
