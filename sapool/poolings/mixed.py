"""Self-attentive pooling whose weight is multiplied by a local one."""

from __future__ import annotations

from torch import Tensor, nn

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import ConvFactory
from sapool.poolings.deformable import DeformablePool
from sapool.poolings.self_attentive import SelfAttentivePool
from sapool.poolings.window import Importance, upsample


@register_pooling(
    "mixp",
    summary="nlp times a local weight",
    use="patches are large (_reduced) and pixels of one patch should still differ",
    attention="weight",
    rank=12,
)
class MixedPool(SelfAttentivePool):
    """`mixp`: w = exp(σ(BN(conv p×p, padding 'same'))) · w of the pooling it is mixed with, (N, C, H, W)."""

    local_factor = True

    def __init__(
        self, channels: int, stride: int, *, conv: ConvFactory = nn.Conv2d, patch: int = 1, **options: object
    ) -> None:
        super().__init__(channels, stride, conv=conv, patch=patch, **options)  # type: ignore[arg-type]
        self.local = nn.Sequential(conv(channels, channels, patch, padding="same"), nn.BatchNorm2d(channels))
        self.local_importance = Importance()

    def grid_weight(self, x: Tensor, patches: Tensor) -> Tensor:
        local: Tensor = self.local_importance(self.local(x))
        return local * upsample(super().grid_weight(x, patches), x.shape[-2], x.shape[-1])


@register_pooling(
    "dfmixp",
    summary="dfmnlp times a local weight",
    use="to have both; the dearest of all",
    attention="weight",
    rank=13,
)
class DeformableMixedPool(MixedPool, DeformablePool):
    """`dfmixp`: a local weight times that of `dfmnlp`."""
