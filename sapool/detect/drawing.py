"""Boxes drawn on images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.font_manager import findfont
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import draw_bounding_boxes

from sapool.detect.boxes import Box
from sapool.weights.atomic import replacing

SMALLEST = 512
"""Images with a longer side below this are enlarged, so that names can be read."""


def drawn(picture: np.ndarray, boxes: Sequence[Box], classes: Sequence[str]) -> Tensor:
    """A picture with its boxes, a colour for each class.

    Args:
        picture: uint8 (H, W, 3), blue first.
        boxes: in its pixels.
        classes: all names, which choose the colours.

    Returns:
        uint8 (3, H', W'), red first, H' : W' as H : W.
    """
    image = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).permute(2, 0, 1)
    factor = max(1.0, SMALLEST / max(image.shape[1:]))
    if factor > 1:
        large = F.interpolate(image[None].float(), scale_factor=factor, mode="bilinear", align_corners=False)[0]
        image = large.round().clamp(0, 255).byte()
    if not boxes:
        return image
    palette = colormaps["hsv"]
    shades = {name: tuple(int(255 * c) for c in palette(n / len(classes))[:3]) for n, name in enumerate(classes)}
    corners = torch.tensor([box.corners for box in boxes]) * factor
    names = [f"{box.label} {box.score:.2f}" for box in boxes]
    result: Tensor = draw_bounding_boxes(
        image,
        corners,
        names,
        colors=[shades[box.label] for box in boxes],
        width=2,
        font=findfont("DejaVu Sans"),  # matplotlib brings it
        font_size=16,
    )
    return result


def save(image: Tensor, path: Path) -> None:
    """Writes uint8 (3, H, W) as a whole PNG."""
    with replacing(path) as temporary:
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(temporary, format="PNG")
