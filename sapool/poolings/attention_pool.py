"""Attention whose output is the pooled map itself: the baseline that self-attentive pooling is compared with."""

from __future__ import annotations

from torch import Tensor, nn

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.attention import Positions, SelfAttention, attend
from sapool.poolings.base import Pooling


@register_pooling(
    "attnpool",
    summary="attention, then a strided convolution (baseline)",
    use="to tell what attention does as the output from what it does as a weight; on maps of at most some 28x28",
    attention="output",
    rank=5,
)
class AttentionPool(Pooling):
    """`attnpool`: ReLU(BN(conv s×s stride s of self-attention over embedded pixels)).

    (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋).

    Args:
        channels: C.
        stride: s.
        heads: attention heads; divides `embedding`.
        embedding: d, channels of a token.
    """

    def __init__(self, channels: int, stride: int, *, heads: int, embedding: int) -> None:
        super().__init__(channels, stride)
        self.embed = nn.Sequential(nn.Conv2d(channels, embedding, 1), nn.BatchNorm2d(embedding), nn.ReLU())
        self.position = Positions(embedding)
        self.attention = SelfAttention(embedding, heads)
        self.project = nn.Sequential(
            nn.Conv2d(embedding, channels, stride, stride=stride), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.project(attend(self.embed(x), self.attention, self.position))  # type: ignore[no-any-return]
