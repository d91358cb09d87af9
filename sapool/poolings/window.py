"""Poolings without parameters, and the weighted window average that the weighting families share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling


@register_pooling(
    "maxp",
    summary="max pooling",
    use="single strong responses matter more than how many there are; costs nothing, and every runtime has it",
    rank=1,
)
class MaxPool(Pooling):
    """`maxp`: the largest value of each window, per channel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.stride)


@register_pooling(
    "avgp",
    summary="average pooling",
    use="the neutral choice without parameters; what every weighted kind is to be compared with",
    rank=2,
)
class AvgPool(Pooling):
    """`avgp`: the mean of each window, per channel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.stride)


class Importance(nn.Module):
    """What makes a weight of a logit: w = exp(σ(logit)), same shape; positive, and at most e.

    Args:
        exp, sigmoid: what an ablation leaves out.
    """

    def __init__(self, exp: bool = True, sigmoid: bool = True) -> None:
        super().__init__()
        self.exp, self.sigmoid = exp, sigmoid

    def forward(self, logit: Tensor) -> Tensor:
        logit = logit.sigmoid() if self.sigmoid else logit
        return logit.exp() if self.exp else logit


def weighted_average(x: Tensor, weight: Tensor, stride: int, *, normalise: bool = True) -> Tensor:
    """A(x·w)/A(w), or A(x·w) without `normalise` (equation 5 of the paper and its ablation).

    Args:
        x: (N, C, H, W).
        weight: (N, C, H, W), or on a coarser grid that is upsampled to it.
        stride: s, side and stride of a window.
        normalise: window normalisation.
    Returns:
        (N, C, ⌊H/s⌋, ⌊W/s⌋).
    """
    weight = upsample(weight, x.shape[-2], x.shape[-1])
    product = _average(x * weight, stride)
    return product / _average(weight, stride) if normalise else product


def coarsen(x: Tensor, stride: int, patch: int) -> tuple[Tensor, int]:
    """The map and the stride with which to take a weighted average, where the weight is constant on patches.

    w need not be upsampled to all of x where patches and windows nest:

    * a window is made of whole patches: A(x·w) over pixels is A(x̄·w) over patches, x̄ the patch averages of x;
    * a patch is made of whole windows: w is constant in a window, so A(x·w) = A(x)·w.

    Elsewhere x and the stride come back as they are.

    Args:
        x: (N, C, H, W).
        stride: s.
        patch: p, side of a patch.
    """
    nested = x.shape[-2] % patch == 0 and x.shape[-1] % patch == 0
    if patch == 1 or not nested:
        return x, stride
    if stride % patch == 0:
        return F.avg_pool2d(x, patch), stride // patch
    if patch % stride == 0:
        return F.avg_pool2d(x, stride), 1
    return x, stride


def upsample(x: Tensor, height: int, width: int) -> Tensor:
    """(N, C, h, w) to (N, C, height, width), each pixel taken from its nearest neighbour."""
    return x if x.shape[-2:] == (height, width) else F.interpolate(x, size=(height, width), mode="nearest")


def _average(x: Tensor, stride: int) -> Tensor:
    return x if stride == 1 else F.avg_pool2d(x, stride)
