"""Anti-aliased downsampling (Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019)."""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling

_SOURCE = "Zhang, ICML 2019"


@register_pooling(
    "blur",
    summary="binomial filter, then every s-th pixel",
    use="predictions should hold still when an image moves; costs one depthwise convolution, which every runtime has",
    source=_SOURCE,
    rank=6,
)
class BlurPool(Pooling):
    """`blur`: a depthwise binomial filter, of which every s-th pixel is kept (the paper's blur and subsampling).

    The filter has t = 2s − 1 taps a side, (1, 2, 1)/4 for s = 2, and the map is mirrored around its border's rows and
    columns. (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋).

    The map that is blurred is the one that any pooling takes, so a stage's convolutions have stride 1; `skipblur` is
    the published form for those. With t = 1 it is subsampling.

    Args:
        channels: C.
        stride: s.
        taps: t, or None for 2s − 1.
    """

    kernel: Tensor

    def __init__(self, channels: int, stride: int, *, taps: int | None = None) -> None:
        super().__init__(channels, stride)
        self.taps = taps or 2 * stride - 1
        row = torch.tensor([comb(self.taps - 1, place) / 2 ** (self.taps - 1) for place in range(self.taps)])
        # One for each channel, not one that is spread at run time: runtimes want their weights to be constants.
        kernel = (row[:, None] * row).repeat(channels, 1, 1, 1)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.blurred(x, x.shape[-2] // self.stride, x.shape[-1] // self.stride)

    def narrow(self, channels: int) -> None:
        super().narrow(channels)
        self.kernel = self.kernel[:channels]

    def blurred(self, x: Tensor, height: int, width: int) -> Tensor:
        """The first height × width of every s-th pixel of the filtered map."""
        before = (self.taps - 1) // 2
        sides = [before, self._behind(x.shape[-1], width), before, self._behind(x.shape[-2], height)]
        if any(sides):
            mirrors = max(sides[:2]) < x.shape[-1] and max(sides[2:]) < x.shape[-2]
            x = F.pad(x, sides, mode="reflect" if mirrors else "replicate")
        y = F.conv2d(x, self.kernel, stride=self.stride, groups=self.channels)
        return y if y.shape[-2:] == (height, width) else y[:, :, :height, :width]

    def _behind(self, size: int, count: int) -> int:
        """Padding behind so many pixels that so many windows need."""
        return max((count - 1) * self.stride + self.taps - (self.taps - 1) // 2 - size, 0)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, taps={self.taps}"


@register_pooling(
    "maxblur",
    summary="maximum at stride 1, binomial filter, then every s-th pixel",
    use="max pooling is wanted, without its aliasing",
    source=_SOURCE,
    rank=6,
)
class MaxBlurPool(BlurPool):
    """`maxblur`: the maximum of s × s pixels at stride 1, then `blur` (the paper's MaxBlurPool).

    (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋). A map of maxima that is too small to be mirrored repeats its border.
    """

    def forward(self, x: Tensor) -> Tensor:
        dense = F.max_pool2d(x, self.stride, 1)
        return self.blurred(dense, x.shape[-2] // self.stride, x.shape[-1] // self.stride)


@register_pooling(
    "skipblur",
    summary="the backbone's own strided convolutions at stride 1, each subsampled by a binomial filter",
    use="a network whose strided convolutions should alias less stays the published one, pretrained weights included",
    keeps_strides=True,
    source=_SOURCE,
    rank=6,
)
class SkipBlurPool(BlurPool):
    """`skipblur`: what strides in the backbone is carried out at stride 1, and `blur` with its stride subsamples.

    As published, the filter comes behind the activation that follows a convolution and its batch norm: in front of it,
    convolution and filter would be one convolution of a blurred map. Where no activation follows a 1×1 convolution, as
    on a shortcut, the two commute, and the filter stands in front, where the map is smaller. A max pooling keeps its
    window; the filter takes the place of an average pooling, which is one itself. (N, C, H, W) to (N, C, ⌈H/s⌉, ⌈W/s⌉),
    the size that the strided operation makes of it. A stem is rewritten where a prepool says so.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self.blurred(x, -(-x.shape[-2] // self.stride), -(-x.shape[-1] // self.stride))
