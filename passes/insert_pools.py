"""Pools: a pooling module on each value that the plan says is pooled."""

from __future__ import annotations

from torch import fx, nn

from sapool.dataflow import is_inside, module_path
from sapool.passes.driver import stamp
from sapool.passes.record import Log
from sapool.plan import Plan, Site
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
    anchor = next(node for node in module.graph.nodes if node.name == site.anchor)
    if site.before is not None:
        anchor = _read_by(module, site.before, anchor)
    pool = make_pool(site, dynamic=plan.dynamic)
    module.add_submodule(site.module, pool)
    with module.graph.inserting_after(anchor):
        node = module.graph.create_node("call_module", site.module, (anchor,), name=site.module.replace(".", "_"))
    stamp(node, log.rule, site.name)
    if site.before is None:
        anchor.replace_all_uses_with(node, delete_user_cb=lambda user: user is not node)
        where = f"after {anchor.name}"
    else:
        # Others, detectors among them, go on reading the map as it was.
        block = site.before
        anchor.replace_all_uses_with(node, delete_user_cb=lambda user: is_inside(module_path(user), block))
        where = f"before {block}"
    log.rewrote(site.name, site.module, where, f"{site.kind}, stride {site.stride}")


def _read_by(module: fx.GraphModule, block: str, anchor: fx.Node) -> fx.Node:
    """What a block reads in place of `anchor`: the value itself, or a pool that has been put on it since."""
    pools = [user for user in anchor.users if str(user.target).startswith("pools.")]
    readers = [source for source in pools if any(is_inside(module_path(user), block) for user in source.users)]
    return readers[0] if readers else anchor


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
