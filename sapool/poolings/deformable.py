"""Self-attentive pooling on deformably sampled patches (Dai et al., ICCV 2017; Zhu et al., CVPR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import ConvFactory
from sapool.poolings.self_attentive import SelfAttentivePool
from sapool.poolings.window import upsample


@register_pooling(
    "dfmnlp",
    summary="nlp on deformably sampled patches",
    use="objects don't keep to the patches' grid, and gathering is cheap where it runs",
    attention="weight",
    rank=11,
)
class DeformablePool(SelfAttentivePool):
    """`dfmnlp`: tokens are embedded from pixels taken beside their patches, and the weight is moved back.

    One 3×3 convolution of stride p predicts a row and a column offset for each of a patch's p² pixels, a second one
    a mask. The map is sampled bilinearly at grid + offset, coordinates clamped to the map, and multiplied by the mask;
    tokens are embedded from that, without a bias. The upsampled weight is sampled once more, at grid − offset.
    """

    attention_on_patches = False

    def __init__(
        self, channels: int, stride: int, *, conv: ConvFactory = nn.Conv2d, patch: int = 1, **options: object
    ) -> None:
        super().__init__(channels, stride, conv=conv, patch=patch, **options)  # type: ignore[arg-type]
        self.offset = conv(channels, 2 * patch**2, 3, stride=patch, padding=1)
        self.mask = conv(channels, patch**2, 3, stride=patch, padding=1)
        self.start()

    def start(self) -> None:
        """Offsets begin at 0, and masks at σ(0)."""
        for module in (self.offset, self.mask):
            nn.init.zeros_(module.get_parameter("weight"))
            nn.init.zeros_(module.get_parameter("bias"))

    def _embedding(self, conv: ConvFactory, embedding: int) -> nn.Module:
        return conv(self.channels, embedding, self.patch, stride=self.patch, bias=False)

    def grid_weight(self, x: Tensor, patches: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        # Shuffling lays the p² numbers of a patch out as its pixels: (N, 2 or 1, H, W).
        shuffled = F.pixel_shuffle(torch.cat((self.offset(x), self.mask(x)), dim=1), self.patch)
        offset, mask = shuffled[:, :2, :height, :width], shuffled[:, 2:, :height, :width].sigmoid()
        weight = super().grid_weight(x, resample(patches, offset) * mask)
        return resample(upsample(weight, height, width), -offset)


def resample(x: Tensor, offset: Tensor) -> Tensor:
    """x sampled bilinearly at each pixel's own place plus an offset, coordinates clamped to the map.

    Args:
        x: (N, C, H, W).
        offset: (N, 2, H, W), in pixels: rows, then columns.
    Returns:
        (N, C, H, W).
    """
    height, width = x.shape[-2:]
    # Places are kept in float32: half precision doesn't reach a pixel's fraction on a wide map.
    offset = offset.to(torch.promote_types(offset.dtype, torch.float32))
    rows = torch.arange(height, device=x.device, dtype=offset.dtype).unsqueeze(1) + offset[:, 0]
    columns = torch.arange(width, device=x.device, dtype=offset.dtype) + offset[:, 1]
    # grid_sample counts from −1 to 1 between the centres of the outer pixels.
    grid = torch.stack((_unit(columns, width), _unit(rows, height)), dim=-1)
    sampled = F.grid_sample(x.to(grid.dtype), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return sampled.to(x.dtype)


def _unit(places: Tensor, size: int) -> Tensor:
    return places * (2 / max(size - 1, 1)) - 1
