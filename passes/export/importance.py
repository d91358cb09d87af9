"""exp∘σ in integers: a runtime's int8 logistic, and an affine map of it.

w = exp(σ(z)) rises from 1 to e as a logistic does, a little later: w ≈ 1 + (e − 1)·σ(az + b). With the a and b that
make its largest error least, that is 0.0012, 0.09 % of w; a step of int8 over [1, e] is 0.0067.
"""

from __future__ import annotations

from math import e

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sapool.ir.plan import Plan
from sapool.passes.record import Log
from sapool.poolings.dynamic import DynamicConv2d
from sapool.poolings.window import Importance

SLOPE, SHIFT = 1.01544665, -0.49926227
LARGEST_ERROR = 0.0012
"""Of the weight, which lies between 1 and e."""


class LogisticImportance(nn.Module):
    """1 + (e − 1)·σ(logit), the affine map as a convolution of each channel, so that it has 32 bits within."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels, 1, 1, 1), e - 1))
        self.register_buffer("bias", torch.ones(channels))

    def forward(self, logit: Tensor) -> Tensor:
        return F.conv2d(logit.sigmoid(), self.weight, self.bias, groups=len(self.weight))  # type: ignore[arg-type]


def approximate_exponential(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Replaces exp∘σ in pools by a logistic, within `LARGEST_ERROR`; az + b goes into the convolution before it."""
    for site in plan.sites:
        pool = module.get_submodule(site.module) if site.pool is not None else None
        for name, source in (("importance", "restore"), ("importance", "logit"), ("local_importance", "local")):
            importance, before = getattr(pool, name, None), getattr(pool, source, None)
            if not isinstance(importance, Importance) or not isinstance(before, nn.Sequential) or not importance.exp:
                continue
            if not importance.sigmoid:
                log.refused(site.name, f"{site.module}.{name}", "the exponential has no sigmoid in it, so no bound")
                continue
            conv, *rest = before
            if not isinstance(conv, (nn.Conv2d, DynamicConv2d)) or any(not isinstance(m, nn.Identity) for m in rest):
                log.refused(site.name, f"{site.module}.{name}", "no convolution stands right before it")
                continue
            _scale(conv)
            channels = conv.out_channels
            setattr(pool, name, LogisticImportance(channels))
            log.rewrote(site.name, f"{site.module}.{name}", "exp(σ(z))", f"1 + (e − 1)·σ({SLOPE:.4f}z − {-SHIFT:.4f})")


@torch.no_grad()
def _scale(conv: nn.Conv2d | DynamicConv2d) -> None:
    """Makes a convolution return az + b in place of z."""
    if conv.bias is None:
        zeros = torch.zeros(conv.weight.shape[:2] if isinstance(conv, DynamicConv2d) else conv.out_channels)
        conv.bias = nn.Parameter(zeros)
    conv.weight.mul_(SLOPE)
    conv.bias.mul_(SLOPE).add_(SHIFT)
