"""Self-attentive pooling (Chen et al., "Self-Attentive Pooling for Efficient Deep Learning", WACV 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.attention import Positions, SelfAttention, attend
from sapool.poolings.base import ConvFactory, Pooling
from sapool.poolings.window import Importance, coarsen, upsample, weighted_average

_SOURCE = "Chen et al., WACV 2023"


@register_pooling(
    "nlp",
    summary="self-attentive (non-local) pooling, the paper's",
    use="downsampling early and hard, at the first stages or as a prepool; _headfix2_nowin_reduced for small devices",
    attention="weight",
    source=_SOURCE,
    rank=10,
)
@register_pooling(
    "nlpnoexp", summary="nlp without the exponential", attention="weight", options={"exp": False}, rank=20
)
@register_pooling(
    "nlpnosigmoid", summary="nlp without the sigmoid", attention="weight", options={"sigmoid": False}, rank=21
)
@register_pooling(
    "nlpnope", summary="nlp without learned positions", attention="weight", options={"position": False}, rank=22
)
@register_pooling(
    "nlpnobn1",
    summary="nlp whose embedding has no batch norm",
    attention="weight",
    options={"embed_norm": False},
    rank=23,
)
@register_pooling(
    "nlpnobn2",
    summary="nlp whose restoring has no batch norm",
    attention="weight",
    options={"restore_norm": False},
    rank=24,
)
class SelfAttentivePool(Pooling):
    """`nlp` and its ablations: a window average whose weights have seen the whole map (section 3 of the paper).

    1. embed: ReLU(BN(conv p×p stride p, C→d)), a grid of tokens;
    2. add learned positions;
    3. multi-head self-attention over all tokens;
    4. restore: w = exp(σ(BN(conv1×1 d→C)));
    5. y = A(x·w)/A(w), or A(x·w) with `window=False`.

    The published order upsamples to H × W before step 4. Every part of that step acts per pixel and commutes with
    nearest-neighbour upsampling, so it is done on the small grid, p² times cheaper.

    (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋). A map smaller than a patch has no token and is an error of the embedding.

    Args:
        channels: C.
        stride: s.
        heads: attention heads; divides `embedding`.
        embedding: d, channels of a token.
        patch: p, side of a token's patch in pixels.
        window: window normalisation (off: `nowin`).
        exp, sigmoid, position, embed_norm, restore_norm: what an ablation leaves out.
        conv: what convolutions are made of.
    """

    attention_on_patches = True

    def __init__(
        self,
        channels: int,
        stride: int,
        *,
        heads: int,
        embedding: int,
        patch: int = 1,
        window: bool = True,
        exp: bool = True,
        sigmoid: bool = True,
        position: bool = True,
        embed_norm: bool = True,
        restore_norm: bool = True,
        conv: ConvFactory = nn.Conv2d,
    ) -> None:
        super().__init__(channels, stride)
        self.patch, self.window = patch, window
        norm = [nn.BatchNorm2d(embedding)] if embed_norm else []
        self.embed = nn.Sequential(self._embedding(conv, embedding), *norm, nn.ReLU())
        self.position = Positions(embedding) if position else None
        self.attention = SelfAttention(embedding, heads)
        norm = [nn.BatchNorm2d(channels)] if restore_norm else []
        self.restore = nn.Sequential(conv(embedding, channels, 1), *norm)
        self.importance = Importance(exp, sigmoid)

    def _embedding(self, conv: ConvFactory, embedding: int) -> nn.Module:
        return conv(self.channels, embedding, self.patch, stride=self.patch)

    def forward(self, x: Tensor) -> Tensor:
        # First, so that the map itself isn't needed any more while tokens attend to each other.
        constant = self.attention_on_patches and not self.local_factor
        coarse, stride = coarsen(x, self.stride, self.patch if constant else 1)
        return weighted_average(coarse, self.grid_weight(x, x), stride, normalise=self.window)

    def weight(self, x: Tensor) -> Tensor:
        """w, (N, C, H, W)."""
        return upsample(self.grid_weight(x, x), x.shape[-2], x.shape[-1])

    def grid_weight(self, x: Tensor, patches: Tensor) -> Tensor:
        """w on the token grid (N, C, ⌊H/p⌋, ⌊W/p⌋), or at full size where the two would differ.

        Args:
            x: the map that is pooled, (N, C, H, W).
            patches: what tokens are embedded from, same shape; x itself unless it was resampled.
        """
        tokens = attend(self.embed(patches), self.attention, self.position)
        height, width = x.shape[-2:]
        uneven = height % self.patch or width % self.patch
        if uneven and (self.training or not isinstance(self.restore[0], nn.Conv2d)):
            # Border patches are larger there, so the two orders differ in averages over the map: batch statistics,
            # and those by which a dynamic convolution mixes its kernels.
            tokens = upsample(tokens, height, width)
            return self.importance(self.restore(tokens))  # type: ignore[no-any-return]
        return self.importance(self._restore(tokens))  # type: ignore[no-any-return]

    def _restore(self, tokens: Tensor) -> Tensor:
        """conv1×1 and BN on the token grid, leaving the running statistics that the upsampled map would leave.

        Mean and biased variance are those of the upsampled map. The running variance is the unbiased one, of p² times
        as many pixels.
        """
        norm = self.restore[1] if len(self.restore) > 1 else None
        if self.patch == 1 or not isinstance(norm, BatchNorm) or not norm.training or norm.running_var is None:
            return self.restore(tokens)  # type: ignore[no-any-return]
        before = norm.running_var.clone()
        restored: Tensor = self.restore(tokens)
        count = tokens.shape[0] * tokens.shape[2] * tokens.shape[3] * _group_size(norm)
        bias = (count - 1) / count * (count * self.patch**2) / (count * self.patch**2 - 1)
        kept = 1 - (norm.momentum if norm.momentum is not None else 1 / int(norm.num_batches_tracked or 1))
        # Through .data, because autograd has saved the buffer, although a backward in training mode doesn't read it.
        norm.running_var.data.sub_(before, alpha=kept).mul_(bias).add_(before, alpha=kept)
        return restored

    def extra_repr(self) -> str:
        return f"stride={self.stride}, patch={self.patch}, window={self.window}"


def _group_size(norm: Any) -> int:
    """Over how many processes a batch norm takes its statistics."""
    # Of torch's batch norms, and of those that stand in for them, only the synchronised ones have a group.
    if hasattr(norm, "process_group") and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(norm.process_group)
    return 1
