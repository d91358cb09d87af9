"""Poolings without parameters, and the weighted window average that the weighting families share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class MaxPool(nn.MaxPool2d):
    """`maxp`: the largest value of each window, per channel."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(stride, stride)


class AvgPool(nn.AvgPool2d):
    """`avgp`: the mean of each window, per channel."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(stride, stride)


def weighted_average(x: Tensor, weight: Tensor, stride: int, *, patch: int = 1, normalise: bool = True) -> Tensor:
    """A(x·w)/A(w), or A(x·w) without `normalise` (equation 5 of the paper and its ablation).

    The weight may lie on a grid `patch` times coarser than x, each of its pixels standing for a patch; w is then its
    nearest-neighbour upsampling, which is materialised only where patches and windows don't nest:

    * a window is made of whole patches: A(x·w) over pixels is A(Ā·w) over patches, Ā the patch averages of x;
    * a patch is made of whole windows: w is constant in a window, so A(x·w) = A(x)·w and A(w) = w.

    Args:
        x: (N, C, H, W).
        weight: (N, C, H, W), or (N, C, ⌊H/patch⌋, ⌊W/patch⌋).
        stride: s, side and stride of a window in pixels of x.
    Returns:
        (N, C, ⌊H/s⌋, ⌊W/s⌋).
    """
    height, width = x.shape[-2:]
    nested = height % patch == 0 and width % patch == 0
    if patch > 1 and nested and stride % patch == 0:
        x, stride = F.avg_pool2d(x, patch), stride // patch
    elif patch > 1 and nested and patch % stride == 0:
        x, stride = F.avg_pool2d(x, stride), 1
        weight = upsample(weight, x.shape[-2], x.shape[-1])
    elif patch > 1:
        weight = upsample(weight, height, width)
    product = _average(x * weight, stride)
    return product / _average(weight, stride) if normalise else product


def upsample(x: Tensor, height: int, width: int) -> Tensor:
    """(N, C, h, w) to (N, C, height, width), each pixel taken from its nearest neighbour."""
    return x if x.shape[-2:] == (height, width) else F.interpolate(x, size=(height, width), mode="nearest")


def _average(x: Tensor, stride: int) -> Tensor:
    return x if stride == 1 else F.avg_pool2d(x, stride)
