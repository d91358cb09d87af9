"""How parameters start: as the published code starts them, after the pools are in place.

A pool built by itself has PyTorch's defaults, which give its convolutions another scale than the backbone's own have:
another effective learning rate before a batch norm, and attention over kernels that hardly differs from their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensor

from sapool.catalogue.backbones import BACKBONES, OWN, is_mobilenet_v2
from sapool.catalogue.builders import build
from sapool.errors import InputError
from sapool.ir.plan import Plan
from sapool.poolings import Pooling
from sapool.poolings.dynamic import DynamicConv2d

PoolsStart = Literal["backbone", "torch"]
"""How pools start: as the convolutions of their backbone, or as PyTorch builds them."""

Deviation = Callable[[Tensor, int], float]
"""The standard deviation of a convolution's weight (out, in/groups, k, k), of so many groups."""


@dataclass(frozen=True)
class Start:
    """How plain convolutions and linear layers start.

    Attributes:
        deviation: of convolutions' weights.
        uniform: whether they are drawn uniformly and not normally.
        bias: what convolutions' biases are; None for `torch.nn.Conv2d`'s own draw.
        linear: standard deviation of linear layers' normal weights, whose biases are then 0; None for torch's default.
    """

    deviation: Deviation
    uniform: bool = False
    bias: float | None = None
    linear: float | None = None


def _fan_out(weight: Tensor, groups: int) -> float:
    """He et al., ICCV 2015, section 2.2, for the backward pass; torch's count, which leaves groups out."""
    return math.sqrt(2 / (weight.shape[0] * weight[0, 0].numel()))


RESNET = Start(_fan_out)
"""Of the published ResNets (semantics §3a), and of whatever starts in a way of its own."""

MOBILENET = Start(_fan_out, bias=0.0, linear=0.01)
"""Of the published MobileNetV2s."""

# What builders do, in torchvision and timm: the scale, and whether it is of a uniform distribution.
_USUAL: Mapping[str, Deviation] = MappingProxyType(
    {
        "fan out": _fan_out,
        "fan out of a group": lambda weight, groups: _fan_out(weight, groups) * math.sqrt(groups),
        "fan in": lambda weight, _: math.sqrt(2 / weight[0].numel()),
        "fan in, gain 1": lambda weight, _: math.sqrt(1 / weight[0].numel()),
        "torch's default": lambda weight, _: math.sqrt(1 / (3 * weight[0].numel())),
        "both fans": lambda weight, _: math.sqrt(2 / (weight[0].numel() + weight.shape[0] * weight[0, 0].numel())),
    }
)
_LOOKED_AT = 1 << 14  # of a weight's values
_FEWEST = 128  # values that tell a deviation
_AGREEING = 0.9  # of the layers: builders start a few in ways of their own
_KURTOSIS_BETWEEN = 2.4  # uniform 1.8, normal 3


@torch.no_grad()
def initialize(model: fx.GraphModule, plan: Plan, pools_start: PoolsStart = "backbone") -> None:
    """Starts what the passes added to a network as its own layers start, in place (semantics §3a).

    Convolutions of pools, shortcuts and dynamic attentions follow the backbone's; so does attention's output
    projection in a MobileNetV2. Attention's input projection, position tables, dynamic kernels and batch norms are
    built as they start. The backbone's own layers stay as its builder made them: torchvision's are what the published
    code makes; where `dialect="paper"` is asked of a builder that starts otherwise, they start as published too.

    Args:
        model: a rewritten network; nothing happens where it has no data.
        plan: what was rewritten.
        pools_start: "torch" leaves convolutions and linear layers of pools as PyTorch built them.

    Raises:
        InputError: pools can't start so.
    """
    if pools_start not in get_args(PoolsStart):
        raise InputError(f"pools_start: expected {' or '.join(get_args(PoolsStart))}, not '{pools_start}'")
    everything = plan.options.dialect == "paper" and plan.backbone not in BACKBONES
    chosen = list(model.modules() if everything else _added(model, plan))
    if any(parameter.is_meta or isinstance(parameter, FakeTensor) for parameter in model.parameters()):
        return
    if any(isinstance(module, (nn.Conv2d, nn.Linear)) for module in chosen):
        start = _start_of(model, plan)
        built = _of_pools(model) if pools_start == "torch" else set()
        for module in chosen:
            if module not in built:
                _draw(module, start)
    for module in chosen:
        if isinstance(module, Pooling):
            module.start()


def _added(model: fx.GraphModule, plan: Plan) -> Iterator[nn.Module]:
    """Every module that the passes put in, each once."""
    adapted = {str(node.target) for node in model.graph.nodes if node.meta.get("rule") == "adapt_input"}
    shortcuts = tuple(f"{site.shortcut.block}.downsample" for site in plan.sites if site.shortcut is not None)
    within = ("pools", *shortcuts)
    for name, module in model.named_modules():
        if name in adapted or name.startswith(tuple(f"{prefix}." for prefix in within)):
            yield module
        elif isinstance(module, DynamicConv2d):
            yield from module.attention.modules()


def _of_pools(model: fx.GraphModule) -> set[nn.Module]:
    """Every module of the pools."""
    return {module for name, module in model.named_modules() if name.startswith("pools.")}


def _start_of(model: fx.GraphModule, plan: Plan) -> Start:
    published = plan.backbone in BACKBONES or plan.options.dialect == "paper"
    if published and is_mobilenet_v2(plan.backbone):
        return MOBILENET
    return RESNET if plan.options.dialect == "paper" else read_off(_own_convolutions(model, plan)) or RESNET


def _own_convolutions(model: fx.GraphModule, plan: Plan) -> list[nn.Conv2d]:
    """The backbone's plain convolutions; from another copy of it where they have become dynamic."""
    if plan.dynamic and plan.backbone != OWN:
        return [m for m in build(plan.backbone, plan.options.num_classes).modules() if isinstance(m, nn.Conv2d)]
    added = set(_added(model, plan))
    return [module for module in model.modules() if isinstance(module, nn.Conv2d) and module not in added]


def read_off(convolutions: Iterable[nn.Conv2d]) -> Start | None:
    """How convolutions were started, where nine in ten agree on a usual way or have one deviation; else None.

    Trained ones agree on none.
    """
    own = [conv for conv in convolutions if conv.weight.numel() >= _FEWEST]
    if not own:
        return None
    measured = [_moments(conv.weight) for conv in own]
    kurtosis = sorted(value for _, value, _ in measured)[len(measured) // 2]
    biases = [conv.bias for conv in own if conv.bias is not None]
    zero = bool(biases) and not any(bias.any() for bias in biases)

    def agree(deviation: Deviation) -> bool:
        pairs = zip(own, measured, strict=True)
        near = [
            abs(seen / deviation(conv.weight, conv.groups) - 1) < 5 * math.sqrt((kind - 1) / (4 * count)) + 1e-3
            for conv, (seen, kind, count) in pairs
        ]
        return sum(near) >= _AGREEING * len(near)

    # One network's constant comes last: a single layer has one whatever its way.
    middle = sorted(seen for seen, _, _ in measured)[len(measured) // 2]
    for deviation in (*_USUAL.values(), lambda weight, groups: middle):
        if agree(deviation):
            return Start(deviation, uniform=kurtosis < _KURTOSIS_BETWEEN, bias=0.0 if zero else None)
    return None


def _moments(weight: Tensor) -> tuple[float, float, int]:
    """Standard deviation and kurtosis about 0 of some of a weight's values, and of how many."""
    values = weight.detach().flatten()[:_LOOKED_AT].double()
    variance = values.square().mean()
    return float(variance.sqrt()), float(values.pow(4).mean() / variance.square().clamp(min=1e-300)), values.numel()


@torch.no_grad()
def start_classifier(layer: nn.Linear | nn.Conv2d, plan: Plan) -> None:
    """Starts a new last layer as that of the plan's backbone starts."""
    if is_mobilenet_v2(plan.backbone) and not layer.weight.is_meta:
        _draw(layer, MOBILENET)


def _draw(module: nn.Module, start: Start) -> None:
    if isinstance(module, nn.Conv2d):
        deviation = start.deviation(module.weight, module.groups)
        if start.uniform:
            nn.init.uniform_(module.weight, -math.sqrt(3) * deviation, math.sqrt(3) * deviation)
        else:
            nn.init.normal_(module.weight, std=deviation)
        if module.bias is not None and start.bias is not None:
            nn.init.constant_(module.bias, start.bias)
    elif isinstance(module, nn.Linear) and start.linear is not None:
        nn.init.normal_(module.weight, std=start.linear)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
