"""Boxes drawn on images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.font_manager import findfont
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import encode_png
from torchvision.utils import draw_bounding_boxes

from sapool.detect.loaded import Box
from sapool.errors import InputError
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
        temporary.write_bytes(encode_png(image).numpy().tobytes())


def make_folder(path: Path) -> None:
    """Makes a folder for drawings.

    Raises:
        InputError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} can't be made: {error.strerror}") from None


def file_names(images: Sequence[str]) -> list[str]:
    """A PNG's name for each image; those of one name in different folders are told apart by a number."""
    stems = [Path(image).stem for image in images]
    return [f"{stem}.png" if stems.count(stem) == 1 else f"{stem}-{n + 1}.png" for n, stem in enumerate(stems)]
