"""Inference: two linear maps with nothing between them become one."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from sapool.ir.plan import Plan
from sapool.passes.record import Log
from sapool.poolings.attention import SelfAttention
from sapool.poolings.attention_pool import AttentionPool
from sapool.poolings.rivals.subbands import HaarPool, SpaceToDepthPool
from sapool.poolings.self_attentive import SelfAttentivePool

_NEXT: dict[type[nn.Module], str] = {SelfAttentivePool: "restore", AttentionPool: "project"}
"""Where a pool keeps what follows its attention."""


def fold_projections(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Folds attention's output projection into the convolution that follows it, and subbands into theirs. Exact.

    Nothing stands between them but upsampling to the nearest pixel, with which a map of each pixel by itself commutes.
    A dynamic convolution mixes its kernels by averages of what the projection makes, so there it stays.
    """
    for site in plan.sites:
        pool = module.get_submodule(site.module) if site.pool is not None else None
        if isinstance(pool, HaarPool):
            module.set_submodule(site.module, _without_bands(pool))
            log.rewrote(site.name, site.module, "subbands, 1x1 convolution", "one convolution of whole windows")
            continue
        follows = next((getattr(pool, name) for kind, name in _NEXT.items() if isinstance(pool, kind)), None)
        if pool is None or follows is None:
            continue
        attention = pool.get_submodule("attention")
        assert isinstance(attention, SelfAttention)
        if type(follows[0]) is not nn.Conv2d:
            log.refused(site.name, f"{site.module}.attention.out_proj", "no plain convolution stands right behind it")
            continue
        follows[0] = _projecting(follows[0], attention.out_proj)
        attention.set_submodule("out_proj", nn.Identity())
        log.rewrote(site.name, f"{site.module}.attention.out_proj", "linear", "folded into the convolution behind it")


def _projecting(conv: nn.Conv2d, linear: nn.Linear) -> nn.Conv2d:
    """What `conv` without padding does to what `linear` does to each pixel: W' = W·P, b' = b + W·p at each tap."""
    assert not isinstance(conv.padding, str)
    assert not any(conv.padding), conv
    with torch.no_grad():
        # In double precision, so that the product is rounded once.
        kernel, projection = conv.weight.double(), linear.weight.double()
        weight = torch.einsum("omij,mk->okij", kernel, projection)
        bias = torch.einsum("omij,m->o", kernel, linear.bias.double())
    return _made(conv, weight, bias if conv.bias is None else bias + conv.bias.double())


def _without_bands(pool: HaarPool) -> SpaceToDepthPool:
    """A pool whose convolution sees windows as they are: the subbands' transform is part of its kernels."""
    conv, taps = pool.mix[0], pool.stride**2
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        mixed = conv.weight.double().view(conv.out_channels, pool.channels, taps)
        bands = pool.bands.double().view(pool.channels, taps, pool.stride, pool.stride)
        weight = torch.einsum("ock,ckij->ocij", mixed, bands)
    plain = SpaceToDepthPool(pool.channels, pool.stride)
    plain.mix = nn.Sequential(_made(conv, weight, conv.bias, pool.stride), *pool.mix[1:])
    return plain.train(pool.training)


def _made(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None, stride: int | None = None) -> nn.Conv2d:
    outputs, inputs, *side = weight.shape
    made = nn.Conv2d(inputs, outputs, tuple(side), stride or conv.stride, bias=bias is not None, device="meta")  # type: ignore[arg-type]
    made.weight = nn.Parameter(weight.to(conv.weight.dtype))
    if bias is not None:
        made.bias = nn.Parameter(bias.to(conv.weight.dtype))
    return made.train(conv.training)
