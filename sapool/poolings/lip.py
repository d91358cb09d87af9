"""Local importance pooling (Gao, Wang and Wu, "LIP: Local Importance-based Pooling", ICCV 2019)."""

from __future__ import annotations

from torch import Tensor, nn

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling
from sapool.poolings.window import Importance, weighted_average


@register_pooling(
    "lip",
    summary="local importance pooling, weights from a 1x1 convolution",
    use="a learned weight at little cost, with a memory that streams: it sees one pixel at a time",
    source="Gao, Wang and Wu, ICCV 2019",
    rank=3,
)
class LocalImportancePool(Pooling):
    """`lip`: y = A(x·w)/A(w) with w = exp(σ(BN(conv1×1(x)))); (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋).

    Args:
        channels: C.
        stride: s.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, stride)
        self.logit = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.importance = Importance()

    def weight(self, x: Tensor) -> Tensor:
        """w, (N, C, H, W), positive."""
        return self.importance(self.logit(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return weighted_average(x, self.weight(x), self.stride)
