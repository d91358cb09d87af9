"""Filters at strides: what strides in the backbone is carried out at stride 1, and a filter subsamples its result.

Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019: what strides by s becomes the same at stride 1
and then a filter that strides by s, ReLU∘Conv and MaxPool alike. AvgPool, which is a filter itself, becomes that one.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from sapool.analysis.dataflow import operation
from sapool.analysis.shapes import ShapeError, propagate
from sapool.analysis.strided import Strided, make_dense, strided
from sapool.errors import PlanError
from sapool.ir.plan import Plan
from sapool.ir.site import Site
from sapool.passes.driver import bypass, stamp
from sapool.passes.measure import too_small
from sapool.passes.record import Log
from sapool.poolings import build

_ACTIVATIONS = frozenset(
    (
        *("relu", "relu6", "leakyrelu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
        *("hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus", "softsign"),
    )
)
_OTHER_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


def filter_strides(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Puts the plan's filter at each strided operation of a site that has one; the operation gets stride 1."""
    sites = [site for site in plan.sites if site.restride is not None and site.restride.filter]
    if not sites:
        return
    try:
        (values,) = propagate(module, plan.options.image_size)  # for the maps' channels
    except ShapeError as error:
        raise too_small(module, plan, error) from None
    for site in sites:
        for node in list(_strided(module, site)):
            own = strided(module, node)
            if own is None or own.stride == 1:
                log.refused(site.name, node.name, "has no stride")
                continue
            source, readers, where = _place(module, node, own)
            made = build(site.kind, int(values[source.name].shape[1]), own.stride)
            added = _put(module, site, node, source, readers, made, log.rule)
            values[added.name] = values[source.name]
            log.rewrote(site.name, site.filter_at(node.name), where, f"{site.kind}, stride {own.stride}")
            if own.averages:
                log.rewrote(site.name, _target(node), operation(module, node), "nothing")
                bypass(module, node)
            else:
                make_dense(module, node)
                stamp(node, log.rule, site.name)
                log.rewrote(site.name, _target(node), f"stride {own.stride}", "stride 1")


def filters_stand(module: fx.GraphModule, plan: Plan) -> None:
    """Raises PlanError where a planned filter isn't in the graph, or what it stands at still strides."""
    names = {node.name for node in module.graph.nodes if node.op == "call_module"}
    for site in plan.sites:
        if site.restride is None or not site.restride.filter:
            continue
        for node in _strided(module, site):
            own = strided(module, node)
            if own is not None and own.stride > 1:
                raise PlanError(site.name, "restride.filter", f"{node.name} still has stride {own.stride}")
            if site.filter_node(node.name) not in names:
                raise PlanError(site.name, "restride.filter", f"nothing filters at {node.name}")


def _strided(module: fx.GraphModule, site: Site) -> Iterator[fx.Node]:
    """The nodes of a site that the plan gives a stride, as far as they are in the graph."""
    assert site.restride is not None
    wanted = {name for name, stride in site.restride.strides if stride > 1}
    projection = f"{site.shortcut.block}.downsample.0" if site.shortcut is not None else None
    for node in module.graph.nodes:
        if node.name in wanted or (node.op == "call_module" and node.target == projection):
            yield node


def _place(module: fx.GraphModule, node: fx.Node, own: Strided) -> tuple[fx.Node, list[fx.Node], str]:
    """The value that is filtered, the nodes that then read the filtered one, and the place in words."""
    if own.averages:
        return node.all_input_nodes[0], [node], f"in place of {node.name}"
    last, commutes = _followed(module, node)
    if own.kind == "conv" and own.kernel == 1 and own.padding == 0 and commutes:
        return node.all_input_nodes[0], [node], f"before {node.name}"
    return last, list(last.users), f"after {last.name}"


def _followed(module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, bool]:
    """The last of a node, its norm and its activation; and whether all of them commute with a filter.

    They do where each pixel's result is an affine function of its value: a filter's weights add up to 1.
    """
    commutes = True
    while len(node.users) == 1:
        (user,) = node.users
        layer = module.get_submodule(str(user.target)) if user.op == "call_module" else None
        plain = isinstance(layer, BatchNorm) and type(layer).__module__.startswith("torch.")
        if user.all_input_nodes[0] is not node:
            break
        if plain or isinstance(layer, nn.Identity) or user.target is F.batch_norm:
            node = user
        elif isinstance(layer, _OTHER_NORMS):
            node, commutes = user, False
        # Batch norms of other libraries bring their activation.
        elif isinstance(layer, BatchNorm) or operation(module, user).lower().replace("_", "") in _ACTIVATIONS:
            return user, False
        else:
            break
    return node, commutes


def _put(
    module: fx.GraphModule,
    site: Site,
    node: fx.Node,
    source: fx.Node,
    readers: list[fx.Node],
    made: nn.Module,
    rule: str,
) -> fx.Node:
    path = site.filter_at(node.name)
    module.add_submodule(path, made)
    with module.graph.inserting_after(source):
        added = module.graph.create_node("call_module", path, (source,), name=site.filter_node(node.name))
    stamp(added, rule, site.name)
    source.replace_all_uses_with(added, delete_user_cb=lambda user: user is not added and user in readers)
    return added


def _target(node: fx.Node) -> str:
    """What a record calls a node: its module's path, or its own name."""
    return str(node.target) if node.op == "call_module" else node.name
