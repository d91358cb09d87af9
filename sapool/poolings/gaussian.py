"""Gaussian pooling (Kobayashi, "Gaussian-Based Pooling for Convolutional Neural Networks", NeurIPS 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling


@register_pooling(
    "gaussian_pool",
    summary="window mean plus gated deviation",
    use="between average and maximum, decided for each channel and image; batches of two or more in training",
    source="Kobayashi, NeurIPS 2019",
    rank=4,
)
class GaussianPool(Pooling):
    """`gaussian_pool`: y = μ + softplus(m)·sd; (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋).

    μ = A(x) and sd = sqrt(max(A(x²) − μ², 1e-6)) describe a window; m says how far above its mean to go, and comes from
    the whole map: z = ReLU(BN(conv1×1 C→C/2 of the global average)), m = BN(conv1×1(z)). In training m is drawn
    around that value, m + v·ε with v = σ(BN(conv1×1(z))) and ε ~ N(0, 1) of μ's shape.

    The batch norms see one value per image and channel, so training needs a batch of two or more.

    Args:
        channels: C.
        stride: s.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, stride)
        hidden = channels // 2
        self.hidden = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        self.mean = nn.Sequential(nn.Conv2d(hidden, channels, 1), nn.BatchNorm2d(channels))
        self.deviation = nn.Sequential(nn.Conv2d(hidden, channels, 1), nn.BatchNorm2d(channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        # A(x²) − μ² cancels, which half precision can't bear.
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        average = F.avg_pool2d(exact, self.stride)
        variance = F.avg_pool2d(exact * exact, self.stride) - average * average
        z = self.hidden(F.adaptive_avg_pool2d(x, 1))
        gate: Tensor = self.mean(z)
        if self.training:
            gate = gate + self.deviation(z) * torch.randn_like(average)
        pooled = average + F.softplus(gate) * variance.clamp(min=1e-6).sqrt()
        return pooled.to(x.dtype)
