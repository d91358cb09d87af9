"""SoftPool (Stergiou, Poppe and Kalliatakis, "Refining activation downsampling with SoftPool", ICCV 2021)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling
from sapool.poolings.window import upsample, weighted_average


@register_pooling(
    "softpool",
    summary="window average weighed by the exponential of each value",
    use="between average and maximum without parameters; strong responses count more, weak ones still count",
    source="Stergiou, Poppe and Kalliatakis, ICCV 2021",
    rank=7,
)
class SoftPool(Pooling):
    """`softpool`: y = A(x·w)/A(w) with w = exp(x), the softmax of each window, per channel.

    (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋). Exponents are taken less their window's maximum, which cancels, so that no
    value is too large for them.
    """

    def weight(self, x: Tensor) -> Tensor:
        """exp(x) less each channel's largest value, (N, C, H, W): a channel's factor cancels, and nothing overflows."""
        return (x - x.amax((2, 3), keepdim=True)).exp()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2] // self.stride * self.stride, x.shape[-1] // self.stride * self.stride
        if x.shape[-2:] != (height, width):
            x = x[:, :, :height, :width]
        largest = upsample(F.max_pool2d(x, self.stride), height, width)
        return weighted_average(x, self.exponential(x, largest), self.stride)

    def exponential(self, x: Tensor, largest: Tensor) -> Tensor:
        """exp(x − largest), where nothing is larger."""
        return (x - largest).exp()
