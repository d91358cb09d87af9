"""Poolings that keep one of the grids of every s-th pixel, whole, and choose which by what the map holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling


@register_pooling(
    "aps",
    summary="the polyphase component of largest norm",
    use="predictions should be the same, to the bit, for every circular shift of an image; no parameters, no filter",
    source="Chaman and Dokmanic, CVPR 2021",
    rank=8,
)
class AdaptivePolyphasePool(Pooling):
    """`aps`: of the s² grids of every s-th pixel, for each image the one with the largest l² norm.

    (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋); rows and columns that fill no window are left out. Where convolutions pad
    circularly and sides are multiples of s, a shifted image has the same output, shifted.

    It has to see the whole map before it can choose, so it isn't streamed.
    """

    def forward(self, x: Tensor) -> Tensor:
        phases = self.phases(x)
        return _chosen(phases, self.scores(phases).argmax(1))

    def phases(self, x: Tensor) -> Tensor:
        """The polyphase components, (N, s², C, ⌊H/s⌋, ⌊W/s⌋), row by row of a window."""
        height, width = x.shape[-2] // self.stride * self.stride, x.shape[-1] // self.stride * self.stride
        if x.shape[-2:] != (height, width):
            x = x[:, :, :height, :width]
        depth = F.pixel_unshuffle(x, self.stride)
        return torch.unflatten(depth, 1, (self.channels, self.stride**2)).transpose(1, 2)

    def scores(self, phases: Tensor) -> Tensor:
        """What each component is chosen by, (N, s²)."""
        # In half precision the squares of a map would add up to infinity.
        exact = phases.to(torch.promote_types(phases.dtype, torch.float32))
        return (exact * exact).sum((2, 3, 4))


@register_pooling(
    "lps",
    summary="a polyphase component chosen by a small network",
    use="as aps, where it should be learned which grid to keep",
    source="Rojas-Gomez et al., NeurIPS 2022",
    rank=8,
)
class LearnedPolyphasePool(AdaptivePolyphasePool):
    """`lps`: as `aps`, but components are chosen by scores that a network gives each of them.

    score = global average of conv1×1 d→1(ReLU(conv3×3 C→d, circular padding)), d = max(C/4, 1), the same network for
    every component. In evaluation the component of the largest score is kept. In training y = Σ πₖ·xₖ over the
    components xₖ with π = softmax((score + Gumbel noise)/τ), τ = 1, through which the scores learn.

    Args:
        channels: C.
        stride: s.
    """

    temperature = 1.0

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, stride)
        hidden = max(channels // 4, 1)
        self.hidden = nn.Conv2d(channels, hidden, 3)
        # A bias would be the same for every component.
        self.score = nn.Conv2d(hidden, 1, 1, bias=False)

    def scores(self, phases: Tensor) -> Tensor:
        """(N, s²), by a network that sees one component at a time."""
        padded = F.pad(phases.flatten(0, 1), (1, 1, 1, 1), mode="circular")
        averages: Tensor = self.score(F.relu(self.hidden(padded))).mean((2, 3))
        return torch.unflatten(averages, 0, (-1, self.stride**2)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        phases = self.phases(x)
        scores = self.scores(phases)
        if not self.training:
            return _chosen(phases, scores.argmax(1))
        gumbel = -torch.empty_like(scores).exponential_().log()
        share = torch.softmax((scores + gumbel) / self.temperature, 1)
        return (phases * share[:, :, None, None, None]).sum(1)


def _chosen(phases: Tensor, which: Tensor) -> Tensor:
    """For each image one of its components, bit for bit: (N, K, C, h, w) and (N,) to (N, C, h, w)."""
    index = which[:, None, None, None, None].expand(-1, -1, *phases.shape[2:])
    return phases.gather(1, index).squeeze(1)
