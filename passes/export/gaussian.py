"""Gaussian pooling for integers: deviations before squares, and a softplus without a choice between two formulas."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from sapool.ir.plan import Plan
from sapool.passes.record import Log
from sapool.poolings.base import Pooling
from sapool.poolings.gaussian import GaussianPool
from sapool.poolings.window import upsample


class DeviationPool(Pooling):
    """What `GaussianPool` computes in eval mode, in an order that few bits can bear.

    A(x²) − μ² is the difference of two numbers that may be large and alike; A((x − μ)²) is the same and never negative.
    softplus(m) = max(m, 0) + log(1 + exp(−|m|)) for every m.
    """

    def __init__(self, pool: GaussianPool) -> None:
        super().__init__(pool.channels, pool.stride)
        self.hidden, self.mean = pool.hidden, pool.mean

    def forward(self, x: Tensor) -> Tensor:
        s = self.stride
        average = F.avg_pool2d(x, s)
        difference = x - upsample(average, x.shape[-2], x.shape[-1])
        variance = F.avg_pool2d(difference * difference, s)
        gate: Tensor = self.mean(self.hidden(F.adaptive_avg_pool2d(x, 1)))
        softplus = gate.relu() + torch.log(1 + torch.exp(-gate.abs()))
        return average + softplus * variance.clamp(min=1e-6).sqrt()


def square_deviations(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Replaces gaussian pools by their twins for integers. Exact up to rounding."""
    for site in plan.sites:
        pool = module.get_submodule(site.module) if site.pool is not None else None
        if not isinstance(pool, GaussianPool):
            continue
        if site.map is None or any(side % site.stride for side in site.map):
            log.refused(site.name, site.module, "its map loses a border, which so windows aren't patches of it")
            continue
        module.set_submodule(site.module, DeviationPool(pool))
        log.rewrote(site.name, site.module, "A(x²) − μ² and softplus", "A((x − μ)²) and max(m, 0) + log(1 + exp(−|m|))")
