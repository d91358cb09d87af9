"""Strides: the convolutions of each site get the stride that the plan gives them, and shortcuts follow."""

from __future__ import annotations

from torch import fx, nn

from sapool.dataflow import is_inside, module_path
from sapool.passes.driver import bypass, stamp
from sapool.passes.record import Log
from sapool.plan import Plan, Site


def restride(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Sets strides, removes the stem's pooling where a prepool takes its place, inserts projection shortcuts."""
    touched = {path for site in plan.sites for path in site.convs}
    for site in plan.sites:
        if site.action == "keep":
            log.refused(site.name, site.name, f"keeps its own stride of {site.was}")
        for path in site.convs:
            _set_stride(module, site, path, log)
        if site.removes is not None:
            log.rewrote(site.name, site.removes, module.get_submodule(site.removes), "nothing")
            bypass(module, site.removes)
        if site.shortcut is not None:
            _project(module, site, site.shortcut, log)
    for node in module.graph.find_nodes(op="call_module"):
        conv = module.get_submodule(str(node.target))
        if isinstance(conv, nn.Conv2d) and conv.stride != (1, 1) and str(node.target) not in touched:
            log.refused("", str(node.target), f"its stride of {conv.stride[0]} is what its site keeps")


def _set_stride(module: fx.GraphModule, site: Site, path: str, log: Log) -> None:
    conv, stride = module.get_submodule(path), site.conv_stride
    assert isinstance(conv, nn.Conv2d)
    assert stride is not None
    if conv.stride == (stride, stride):
        log.refused(site.name, path, f"already has stride {stride}")
        return
    log.rewrote(site.name, path, f"stride {conv.stride[0]}", f"stride {stride}")
    conv.stride = (stride, stride)
    for node in module.graph.find_nodes(op="call_module", target=path):
        stamp(node, log.rule, site.name)


def _project(module: fx.GraphModule, site: Site, block: str, log: Log) -> None:
    """Puts a projection (1×1 convolution without bias, batch norm) on a block's identity shortcut.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, equation 2.
    """
    inside = [node for node in module.graph.nodes if is_inside(module_path(node), block)]
    members = set(inside)
    entry = next(source for node in inside for source in node.all_input_nodes if source not in members)
    # The identity shortcut is the block's one direct use of its input that isn't a convolution's.
    users = [node for node in inside if entry in node.all_input_nodes and node.op != "call_module"]
    assert len(users) == 1, (site.name, users)
    assert site.shortcut_channels is not None
    stride = site.conv_stride or 1
    conv = nn.Conv2d(*site.shortcut_channels, kernel_size=1, stride=stride, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts its own
    path, value = f"{block}.downsample", entry
    for name, layer in (("0", conv), ("1", nn.BatchNorm2d(site.shortcut_channels[1]))):
        module.add_submodule(f"{path}.{name}", layer)
        with module.graph.inserting_before(users[0]):
            value = stamp(module.graph.call_module(f"{path}.{name}", (value,)), log.rule, site.name)
    users[0].replace_input_with(entry, value)
    log.rewrote(site.name, path, "identity shortcut", f"projection shortcut, stride {stride}")
