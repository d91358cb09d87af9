"""Strides: the convolutions of each site get the stride that the plan gives them, and shortcuts follow."""

from __future__ import annotations

from torch import fx, nn

from sapool.analysis.dataflow import is_inside, module_path, operation
from sapool.analysis.strided import set_stride, strided
from sapool.errors import PlanError
from sapool.ir.plan import Plan
from sapool.ir.site import Restride, Shortcut, Site
from sapool.passes.driver import bypass, named, stamp
from sapool.passes.record import Log


def restride(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Sets strides, removes poolings whose place a pool or a stride takes, inserts projection shortcuts."""
    nodes = {node.name: node for node in module.graph.nodes}
    touched = {nodes[name] for site in plan.sites if site.restride for name, _ in site.restride.strides}
    for site in plan.sites:
        if site.action == "keep":
            log.refused(site.name, site.name, f"keeps its own stride of {site.was}")
        changes = site.restride or Restride()
        for name, stride in changes.strides:
            _set_stride(module, site, nodes[name], stride, log)
        for name in changes.removes:
            log.rewrote(site.name, _target(nodes[name]), _what(module, nodes[name]), "nothing")
            bypass(module, nodes[name])
        if site.shortcut is not None:
            _project(module, site, site.shortcut, log)
    for node in module.graph.nodes:
        own = strided(module, node)
        if own is not None and own.stride > 1 and node not in touched:
            log.refused("", _target(node), f"its stride of {own.stride} is what its site keeps")


def strides_are_set(module: fx.GraphModule, plan: Plan) -> None:
    """Raises PlanError where an operation hasn't the stride that was planned, or hasn't gone."""
    nodes = {node.name: node for node in module.graph.nodes}
    for site in plan.sites:
        changes = site.restride or Restride()
        for name, stride in changes.strides:
            own = strided(module, nodes[name]) if name in nodes else None
            # Where there is a filter, it strides in the end.
            allowed = {stride, 1} if changes.filter else {stride}
            if own is not None and own.stride not in allowed:
                raise PlanError(site.name, "restride.strides", f"{name} has stride {own.stride}, not {stride}")
        left = [name for name in changes.removes if name in nodes]
        if left:
            raise PlanError(site.name, "restride.removes", f"{', '.join(left)} should have gone")


def _target(node: fx.Node) -> str:
    """What a record calls a node: its module's path, or its own name."""
    return str(node.target) if node.op == "call_module" else node.name


def _what(module: fx.GraphModule, node: fx.Node) -> object:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else operation(module, node)


def _set_stride(module: fx.GraphModule, site: Site, node: fx.Node, stride: int, log: Log) -> None:
    was = strided(module, node)
    assert was is not None
    if was.stride == stride:
        log.refused(site.name, _target(node), f"already has stride {stride}")
        return
    set_stride(module, node, stride)
    stamp(node, log.rule, site.name)
    log.rewrote(site.name, _target(node), f"stride {was.stride}", f"stride {stride}")


def _project(module: fx.GraphModule, site: Site, shortcut: Shortcut, log: Log) -> None:
    """Puts a projection (1×1 convolution without bias, batch norm) on a block's identity shortcut.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, equation 2.
    """
    reader = named(module, shortcut.reader)
    inside = {node for node in module.graph.nodes if is_inside(module_path(node), shortcut.block)}
    (entry,) = (source for source in reader.all_input_nodes if source not in inside)
    stride = max((stride for _, stride in site.restride.strides), default=1) if site.restride else 1
    conv = nn.Conv2d(*shortcut.channels, kernel_size=1, stride=stride, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts its own
    path, value = f"{shortcut.block}.downsample", entry
    for name, layer in (("0", conv), ("1", nn.BatchNorm2d(shortcut.channels[1]))):
        module.add_submodule(f"{path}.{name}", layer)
        with module.graph.inserting_before(reader):
            value = stamp(module.graph.call_module(f"{path}.{name}", (value,)), log.rule, site.name)
    reader.replace_input_with(entry, value)
    log.rewrote(site.name, path, "identity shortcut", f"projection shortcut, stride {stride}")
