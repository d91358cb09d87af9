"""Narrower layers: a rewritten network whose tensors get other shapes than its plan gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from sapool.analysis.shapes import image, on_meta
from sapool.errors import WeightsError, first_line
from sapool.ir.plan import Plan
from sapool.ir.site import Site
from sapool.passes.measure import Measurement, measure
from sapool.passes.verify import verify
from sapool.poolings import Pooling
from sapool.poolings.dynamic import DynamicConv2d

Shapes = Mapping[str, tuple[int, ...]]
"""A state dict's keys, and the shape of each tensor."""


def narrow(module: fx.GraphModule, plan: Plan, shapes: Shapes) -> tuple[Plan, Measurement]:
    """Gives every layer of a network the widths that a state dict of those shapes needs, in place.

    Tensors whose shape changes are new and hold no numbers: load the state dict next.

    Args:
        module: as the passes left it.
        plan: what they carried out.
        shapes: of the whole state dict.

    Returns:
        The plan with the channels that are pooled now, and what was measured.

    Raises:
        WeightsError: no network of that graph has such tensors; names the first that is wrong.
    """
    own = {key: value.dim() for key, value in module.state_dict().items()}
    odd = [key for key in {**own, **shapes} if key not in shapes or own.get(key) != len(shapes[key])]
    if odd:
        raise WeightsError(f"{odd[0]}: the narrower network has other tensors than {plan.architecture}")
    for path, layer in module.named_modules():
        _resize(layer, f"{path}." if path else "", shapes)
    try:
        _narrow_pools(module, plan)
        measured = measure(module, plan)
        narrower = _with_channels(plan, module, measured)
        verify(module, narrower, measured)
    except Exception as error:  # whatever operations that don't fit together raise
        reason = first_line(error)
        raise WeightsError(f"the narrower layers of {plan.architecture} don't fit together: {reason}") from None
    return narrower, measured


def _resize(layer: nn.Module, prefix: str, shapes: Shapes) -> None:
    for name, parameter in list(layer.named_parameters(recurse=False)):
        if tuple(parameter.shape) != shapes[prefix + name]:
            made = torch.empty(shapes[prefix + name], dtype=parameter.dtype, device=parameter.device)
            layer.register_parameter(name, nn.Parameter(made, parameter.requires_grad))
    for name, buffer in list(layer.named_buffers(recurse=False)):
        if prefix + name in shapes and tuple(buffer.shape) != shapes[prefix + name]:
            layer.register_buffer(name, torch.empty(shapes[prefix + name], dtype=buffer.dtype, device=buffer.device))
    if isinstance(layer, (nn.Conv2d, DynamicConv2d)):
        _tell_convolution(layer)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, BatchNorm) and layer.weight is not None:
        layer.num_features = len(layer.weight)


def _tell_convolution(layer: nn.Conv2d | DynamicConv2d) -> None:
    out, per_group = layer.weight.shape[-4:-2]
    if layer.groups == layer.in_channels > 1:  # depthwise: as many groups as channels
        layer.groups = layer.groups * out // layer.out_channels
    layer.out_channels, layer.in_channels = out, per_group * layer.groups


def _narrow_pools(module: fx.GraphModule, plan: Plan) -> None:
    """Makes pools and filters fit the maps that reach them: what isn't in a state dict has their channels too."""
    found = _Pools(on_meta(module))  # type: ignore[arg-type]
    with torch.no_grad():
        found.run(image(module, plan.options.image_size))
    for path, channels in found.channels.items():
        pool = module.get_submodule(path)
        assert isinstance(pool, Pooling)
        pool.narrow(channels)


class _Pools(fx.Interpreter):
    """Runs a network whose convolutions are narrower already; notes and sets how many channels each pool has."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.channels: dict[str, int] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a module, a pool once it fits."""
        pool = self.fetch_attr(str(target))
        if isinstance(pool, Pooling):
            self.channels[str(target)] = int(args[0].shape[1])
            pool.narrow(self.channels[str(target)])
        return super().call_module(target, args, kwargs)


def _with_channels(plan: Plan, module: fx.GraphModule, measured: Measurement) -> Plan:
    """The plan with the channels that were measured."""
    nodes = {node.name: node for node in module.graph.nodes}
    channels = {feature.name: feature.channels for feature in measured.features}
    stem = measured.values.get(plan.survey.stem.node)
    if stem is not None:
        channels |= dict.fromkeys(("stem", "prepool"), int(stem.shape[1]))
    sites: list[Site] = []
    for site in plan.sites:
        if site.pool is None or site.node not in nodes:
            sites.append(replace(site, channels=channels.get(site.name, site.channels)))
            continue
        pooled = int(measured.values[nodes[site.node].all_input_nodes[0].name].shape[1])
        pool: Any = module.get_submodule(site.module)
        attention = site.pool.attention
        if attention is not None:
            attention = replace(attention, embedding=pool.attention.out_proj.in_features)
        sites.append(replace(site, channels=pooled, pool=replace(site.pool, channels=pooled, attention=attention)))
    return replace(plan, sites=tuple(sites))
