"""Verification: a rewritten graph, as it was measured, is held to its plan."""

from __future__ import annotations

from torch import fx

from sapool.errors import PlanError
from sapool.ir.plan import Plan
from sapool.passes.measure import Measurement, reductions_of


def verify(module: fx.GraphModule, plan: Plan, measured: Measurement) -> None:
    """Checks that every parameter is used, and that every site and output is as planned.

    What can be said of a graph without running it is verified after each pass, by the driver.

    Raises:
        PlanError: the graph isn't what the plan says.
        AssertionError: a parameter that nothing uses.
    """
    called = {str(node.target) for node in module.graph.nodes if node.op in ("call_module", "get_attr")}
    for path, _ in module.named_parameters():
        assert any(path == target or path.startswith(target + ".") for target in called), f"{path} is never used"
    _pools(module, plan, measured)
    _filters(module, plan, measured)
    _features(plan, measured)
    _outputs(module, plan, measured)


def _pools(module: fx.GraphModule, plan: Plan, measured: Measurement) -> None:
    nodes = {node.name: node for node in module.graph.nodes}
    for site in plan.sites:
        node = nodes.get(site.node)
        if site.pool is None or node is None:
            # Only what no wanted feature map needs may have gone.
            if site.pool is not None and not plan.options.features_only:
                raise PlanError(site.name, "pool", "it isn't in the graph")
            continue
        size, pooled = (measured.values[name].shape for name in (node.all_input_nodes[0].name, node.name))
        if not size[1] == pooled[1] == site.pool.channels:
            raise PlanError(site.name, "pool.channels", f"{size[1]} channels are pooled, not {site.pool.channels}")
        expected = (size[2] // site.stride, size[3] // site.stride)
        if tuple(pooled[2:]) != expected:
            got, wanted = ("x".join(map(str, sides)) for sides in (pooled[2:], expected))
            raise PlanError(site.name, "stride", f"the pooled map has {got} pixels, not {wanted}")


def _filters(module: fx.GraphModule, plan: Plan, measured: Measurement) -> None:
    """What a filter returns has every s-th pixel of its map, the first included, and all its channels."""
    nodes = {node.name: node for node in module.graph.nodes}
    for site in plan.sites:
        for name, _ in site.restride.strides if site.restride is not None else ():
            node = nodes.get(site.filter_node(name))
            if node is None:
                continue
            size, filtered = (measured.values[other].shape for other in (node.all_input_nodes[0].name, node.name))
            expected = (size[0], size[1], -(-size[2] // site.stride), -(-size[3] // site.stride))
            if tuple(filtered) != expected:
                got, wanted = ("x".join(map(str, shape[1:])) for shape in (filtered, expected))
                raise PlanError(site.name, "restride.filter", f"what {node.name} returns is {got}, not {wanted}")


def _features(plan: Plan, measured: Measurement) -> None:
    """A map's reduction is the slope of its side against the image's, whatever is rounded at borders.

    An image that is larger by multiples of all strides must have a map that is larger by just as many of its pixels.
    """
    if measured.larger is measured.values:
        return
    reductions = reductions_of(plan)
    for feature in measured.features:
        one, other = (values[feature.node].shape[2] for values in (measured.values, measured.larger))
        expected = measured.grown // reductions[feature.name]
        if other - one != expected:
            site = feature.name if feature.name != "head" else plan.sites[-1].name
            problem = f"{feature.name} grows by {other - one} pixels where {expected} are expected"
            raise PlanError(site, "stride", problem)


def _outputs(module: fx.GraphModule, plan: Plan, measured: Measurement) -> None:
    returned = measured.values[module.graph.output_node().name]
    if plan.options.features_only:
        names = [next(f.name for f in measured.features if measured.values[f.node] is value) for value in returned]
        wanted = [plan.features[index][0] for index in plan.outputs]
        if names != wanted:
            raise PlanError("", "options.out_indices", f"the graph returns {names}, not {wanted}")
    elif tuple(returned.shape) != (1, plan.options.num_classes):
        shape = "x".join(map(str, returned.shape))
        raise PlanError("", "options.num_classes", f"the output is {shape}, not 1x{plan.options.num_classes}")
