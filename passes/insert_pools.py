"""Pools: a pooling module on each value that the plan says is pooled."""

from __future__ import annotations

from torch import fx, nn

from sapool.ir.plan import Plan, Site
from sapool.passes.driver import stamp
from sapool.passes.record import Log
from sapool.poolings import build
from sapool.poolings.dynamic import DynamicConv2d


def insert_prepool(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Pools the stem's output."""
    for site in plan.sites:
        if site.name == "prepool":
            _insert(module, plan, site, log)


def insert_pools(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Pools the stages: before their first block, after it, or after their last, as the plan says."""
    for site in plan.sites:
        if site.name not in ("stem", "prepool"):
            _insert(module, plan, site, log)


def _insert(module: fx.GraphModule, plan: Plan, site: Site, log: Log) -> None:
    if site.action != "pool":
        log.refused(site.name, site.name, f"a stride of {site.stride} without pooling")
        return
    nodes = {node.name: node for node in module.graph.nodes}
    anchor, readers = nodes[site.anchor or ""], [nodes[name] for name in site.readers]
    source = _now(anchor, readers)
    pool = make_pool(site, dynamic=plan.dynamic)
    module.add_submodule(site.module, pool)
    with module.graph.inserting_after(source):
        node = module.graph.create_node("call_module", site.module, (source,), name=site.module.replace(".", "_"))
    stamp(node, log.rule, site.name)
    # Before a stage, others, detectors among them, go on reading the map as it was.
    source.replace_all_uses_with(
        node, delete_user_cb=lambda user: user is not node and (not readers or user in readers)
    )
    where = f"before {site.name}" if readers else f"after {source.name}"
    log.rewrote(site.name, site.module, where, f"{site.kind}, stride {site.stride}")


def _now(anchor: fx.Node, readers: list[fx.Node]) -> fx.Node:
    """What stands for a value now: itself, or the pool that has been put on it since."""
    while pools := [user for user in anchor.users if str(user.target).startswith("pools.")]:
        wanted = [pool for pool in pools if not readers or any(reader in pool.users for reader in readers)]
        if not wanted or (not readers and len(anchor.users) > 1):
            break
        anchor = wanted[0]
    return anchor


def make_pool(site: Site, *, dynamic: bool) -> nn.Module:
    """The pooling module of a site."""
    assert site.kind is not None
    return build(
        site.kind,
        site.channels,
        site.stride,
        heads=site.heads or 1,
        patch=site.patch or 1,
        embedding=site.embedding,
        window=site.window is not False,
        conv=DynamicConv2d if dynamic else nn.Conv2d,
    )
