"""SoftPool in integers: the exponential of what is never positive, by a runtime's int8 logistic and a division."""

from __future__ import annotations

from torch import Tensor, fx

from sapool.ir.plan import Plan
from sapool.passes.record import Log
from sapool.poolings.rivals.soft import SoftPool


class LogisticSoftPool(SoftPool):
    """What `SoftPool` computes, with exp(d) = 1/σ(−d) − 1 for d = x − max ≤ 0.

    The logistic lies between 1/2 and 1 there, so that nothing is divided by a number near zero, and no map has to leave
    integers: TensorFlow Lite Micro has its exponential in floats alone, with a map four times as large.
    """

    def __init__(self, pool: SoftPool) -> None:
        super().__init__(pool.channels, pool.stride)

    def exponential(self, x: Tensor, largest: Tensor) -> Tensor:
        return 1 / (largest - x).sigmoid() - 1


def divide_by_logistics(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Replaces soft poolings by their twins for integers. Exact up to rounding."""
    for site in plan.sites:
        pool = module.get_submodule(site.module) if site.pool is not None else None
        if isinstance(pool, SoftPool):
            module.set_submodule(site.module, LogisticSoftPool(pool))
            log.rewrote(site.name, site.module, "exp(x − max)", "1/σ(max − x) − 1")
