"""Pools: a pooling module on each value that the plan says is pooled."""

from __future__ import annotations

from torch import fx, nn

from sapool.errors import PlanError
from sapool.ir.plan import Plan
from sapool.ir.site import Pool, Site
from sapool.passes.driver import stamp
from sapool.passes.record import Log
from sapool.poolings import build
from sapool.poolings.dynamic import DynamicConv2d

PREPOOL = "prepool"


def insert_prepool(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Pools the stem's output."""
    _insert(module, plan, [site for site in plan.sites if site.name == PREPOOL], log)


def insert_pools(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Pools the stages: before their first block, after it, or after their last, as the plan says."""
    _insert(module, plan, [site for site in plan.sites if site.name not in ("stem", PREPOOL)], log)


def prepool_stands(module: fx.GraphModule, plan: Plan) -> None:
    """Raises PlanError where a planned prepool isn't in the graph."""
    _stand(module, [site for site in plan.sites if site.name == PREPOOL])


def stages_pool(module: fx.GraphModule, plan: Plan) -> None:
    """Raises PlanError where a planned pool of a stage isn't in the graph."""
    # Clean-up may have taken away what no wanted feature map needs.
    if not (plan.options.features_only and not _exposed(module)):
        _stand(module, [site for site in plan.sites if site.name != PREPOOL])


def make_pool(site: Site, *, dynamic: bool) -> nn.Module:
    """The pooling module of a site."""
    assert site.pool is not None
    numbers = site.attention
    given = {} if numbers is None else {"heads": numbers.heads, "patch": numbers.patch, "embedding": numbers.embedding}
    return build(
        site.pool.kind,
        site.pool.channels,
        site.stride,
        **given,
        window=numbers is None or numbers.window,
        conv=DynamicConv2d if dynamic else nn.Conv2d,
    )


def _insert(module: fx.GraphModule, plan: Plan, sites: list[Site], log: Log) -> None:
    nodes = {node.name: node for node in module.graph.nodes}
    for site in sites:
        if site.pool is None:
            log.refused(site.name, site.name, f"a stride of {site.stride} without pooling")
        else:
            _put(module, site, site.pool, nodes, make_pool(site, dynamic=plan.dynamic), log)


def _put(module: fx.GraphModule, site: Site, pool: Pool, nodes: dict[str, fx.Node], made: nn.Module, log: Log) -> None:
    readers = [nodes[name] for name in pool.readers]
    source = _now(nodes[pool.anchor], readers)
    module.add_submodule(site.module, made)
    with module.graph.inserting_after(source):
        node = module.graph.create_node("call_module", site.module, (source,), name=site.node)
    stamp(node, log.rule, site.name)
    # Before a stage, others, detectors among them, go on reading the map as it was.
    source.replace_all_uses_with(
        node, delete_user_cb=lambda user: user is not node and (not readers or user in readers)
    )
    where = f"before {site.name}" if readers else f"after {source.name}"
    log.rewrote(site.name, site.module, where, f"{pool.kind}, stride {site.stride}")


def _now(anchor: fx.Node, readers: list[fx.Node]) -> fx.Node:
    """What stands for a value now: itself, or the pool that has been put on it since."""
    while pools := [user for user in anchor.users if str(user.target).startswith("pools.")]:
        wanted = [pool for pool in pools if not readers or any(reader in pool.users for reader in readers)]
        if not wanted or (not readers and len(anchor.users) > 1):
            break
        anchor = wanted[0]
    return anchor


def _stand(module: fx.GraphModule, sites: list[Site]) -> None:
    names = {node.name for node in module.graph.nodes if node.op == "call_module"}
    for site in sites:
        if site.pool is not None and site.node not in names:
            raise PlanError(site.name, "pool", "it isn't in the graph")


def _exposed(module: fx.GraphModule) -> bool:
    """Whether logits and features are still returned together."""
    returned = module.graph.output_node().args[0]
    return isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], (list, tuple))
