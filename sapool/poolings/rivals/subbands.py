"""Poolings that keep all of a window, as channels, and let a convolution choose: space to depth, and wavelets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling


@register_pooling(
    "spd",
    summary="space to depth, then a 1x1 convolution",
    use="small objects and low resolutions, where no pixel should be lost before something has learned that it may be",
    source="Sunkara and Luo, ECML PKDD 2022",
    rank=7,
)
class SpaceToDepthPool(Pooling):
    """`spd`: BN(conv1×1 s²C→C of the s × s pixels of each window, laid out as channels).

    (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋). A 1×1 convolution after space to depth is an s × s convolution of stride s
    with the same numbers, and is done as one: nothing has to be laid out anew. There is no activation, so that it can
    follow linear bottlenecks; the convolution has no bias, which the batch norm would cancel.

    Args:
        channels: C.
        stride: s.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, stride)
        conv = nn.Conv2d(channels, channels, stride, stride=stride, bias=False)
        self.mix = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x)  # type: ignore[no-any-return]


@register_pooling(
    "hwd",
    summary="Haar wavelet subbands, then a 1x1 convolution",
    use="edges and textures that averaging would lose, as in segmentation; as much arithmetic as spd",
    source="Xu et al., Pattern Recognition 2023",
    rank=7,
)
class HaarPool(Pooling):
    """`hwd`: ReLU(BN(conv1×1 s²C→C of each window's Haar subbands)).

    For s = 2 the subbands are the average (times 2) and the vertical, horizontal and diagonal differences. For other
    strides they are those of the orthonormal basis of which Haar's is the smallest (Helmert's): a sum, and each pixel
    against those before it. No information is lost: the transform is orthonormal, so its transpose inverts it.
    (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋). The 1×1 convolution has no bias, which the batch norm would cancel.

    Args:
        channels: C.
        stride: s.
    """

    bands: Tensor

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, stride)
        self.register_buffer("bands", _bands(channels, stride).float(), persistent=False)
        self.mix = nn.Sequential(
            nn.Conv2d(stride**2 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def subbands(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C·s², ⌊H/s⌋, ⌊W/s⌋), the bands of a channel side by side, the sum first."""
        return F.conv2d(x, self.bands, stride=self.stride, groups=self.channels)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        applied = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.bands.dtype == torch.float64:  # what single precision has rounded
            self.bands = _bands(self.channels, self.stride).to(self.bands.device)
        return applied  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.subbands(x))  # type: ignore[no-any-return]


def _bands(channels: int, size: int) -> Tensor:
    """The products of Helmert's orthonormal basis with itself, (channels·size², 1, size, size).

    Its first vector is constant, each of the others one pixel against those before it: of two, Haar's.
    """
    against = ([1.0] * place + [-float(place)] + [0.0] * (size - 1 - place) for place in range(1, size))
    rows = [[1.0] * size, *against]
    basis = torch.tensor(rows, dtype=torch.float64)
    basis /= basis.square().sum(1, keepdim=True).sqrt()
    products = torch.einsum("ai,bj->abij", basis, basis).reshape(size**2, 1, size, size)
    return products.repeat(channels, 1, 1, 1)
