"""A pass: marks every median pool, and says why it left the others alone."""

import sapool


@sapool.register_pass("mark_medians", after="insert_pools", summary="marks median pools")
def mark_medians(module, plan, log):  # type: ignore[no-untyped-def]
    """Puts a mark on the nodes of median pools."""
    for site in plan.sites:
        if site.pool is None:
            continue
        if site.pool.kind != "median":
            log.refused(site.name, site.module, f"{site.pool.kind} is no median")
            continue
        (node,) = module.graph.find_nodes(op="call_module", target=site.module)
        node.meta["median"] = True
        log.rewrote(site.name, site.module, "a pool", "a marked pool")
