"""Boxes drawn on images: each with its class on a ground of its colour, the best ones only, and a legend of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from sapool.boxes.detections import Box
from sapool.weights.atomic import replacing

SMALLEST = 512
"""Images with a longer side below this are enlarged, so that names can be read."""
MOST = 50
"""Of more boxes the best so many are drawn: the others would cover them."""
_FONT, _PAD, _WIDTH = 15, 3, 2

Colour = tuple[int, int, int]


def drawn(image: Tensor, boxes: Sequence[Box], classes: Sequence[str], *, legend: bool = True) -> Tensor:
    """A picture with its boxes, a colour for each class.

    Args:
        image: uint8 (3, H, W), red first.
        boxes: in its pixels, best first.
        classes: all names, which choose the colours.
        legend: put the classes that are seen, and how many boxes each has, under the picture.

    Returns:
        uint8 (3, H', W'), red first: the picture, H : W, and the legend under it.
    """
    factor = max(1.0, SMALLEST / max(image.shape[1:]))
    if factor > 1:
        large = F.interpolate(image[None].float(), scale_factor=factor, mode="bilinear", align_corners=False)[0]
        image = large.round().clamp(0, 255).byte()
    canvas = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    shades, font = _shades(classes), ImageFont.truetype(findfont("DejaVu Sans"), _FONT)  # matplotlib brings it
    pen = ImageDraw.Draw(canvas)
    # The best ones last, over the others.
    shown = sorted(boxes, key=lambda box: -box.score)[:MOST][::-1]
    for box in shown:
        left, top, right, bottom = (edge * factor for edge in box.corners)
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=shades[box.label], width=_WIDTH)
    for box in shown:
        left, top, _, _ = (edge * factor for edge in box.corners)
        _label(pen, (left, top), f"{box.label} {box.score:.2f}", shades[box.label], font, canvas.size)
    if legend:
        canvas = _with_legend(canvas, boxes, shades, font)
    return torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1)


def save(image: Tensor, path: Path) -> None:
    """Writes uint8 (3, H, W) as a whole PNG."""
    with replacing(path) as temporary:
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(temporary, format="PNG")


def _shades(classes: Sequence[str]) -> dict[str, Colour]:
    """A colour for each class: apart in hue where there are few, and the same for a class in every picture."""
    few = len(classes) <= 10
    palette = colormaps["tab10"] if few else colormaps["hsv"]
    rgb = [palette(number)[:3] if few else palette(number / len(classes))[:3] for number in range(len(classes))]
    return {name: (int(255 * r), int(255 * g), int(255 * b)) for name, (r, g, b) in zip(classes, rgb, strict=True)}


def _ink(ground: Colour) -> Colour:
    """Black or white, whichever is read better on a colour (by its luma, ITU-R BT.601)."""
    red, green, blue = ground
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _label(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    ground: Colour,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """A text on a ground of its colour, above a box's corner, and inside the picture."""
    width, height = font.getlength(text) + 2 * _PAD, _FONT + 2 * _PAD
    left = min(max(place[0], 0), max(size[0] - width, 0))
    top = place[1] - height if place[1] >= height else place[1]
    top = min(max(top, 0), max(size[1] - height, 0))
    pen.rectangle((left, top, left + width, top + height), fill=ground)
    pen.text((left + _PAD, top + height / 2), text, fill=_ink(ground), font=font, anchor="lm")


def _with_legend(
    picture: Image.Image, boxes: Sequence[Box], shades: dict[str, Colour], font: ImageFont.FreeTypeFont
) -> Image.Image:
    """The picture with a strip under it: the classes that were found, and what isn't drawn."""
    counts = {name: sum(box.label == name for box in boxes) for name in shades}
    entries: list[tuple[str, Colour | None]] = [
        (f"{name} ({count})", shades[name]) for name, count in counts.items() if count
    ]
    if not boxes:
        entries = [("no boxes", None)]
    if len(boxes) > MOST:
        entries.append((f"the best {MOST} of {len(boxes)} boxes are drawn", None))
    line, gap = _FONT + 10, 14
    places, left, row = [], gap, 0
    for text, colour in entries:
        width = int(font.getlength(text)) + (line if colour else 0)
        if left > gap and left + width > picture.width:
            left, row = gap, row + 1
        places.append((left, row))
        left += width + gap
    canvas = Image.new("RGB", (picture.width, picture.height + line * (row + 1) + 8), "white")
    canvas.paste(picture)
    pen = ImageDraw.Draw(canvas)
    for (text, colour), (left, row) in zip(entries, places, strict=True):
        middle, start = picture.height + 4 + line * row + line / 2, left
        if colour:
            pen.rectangle((left, middle - _FONT / 2, left + _FONT, middle + _FONT / 2), fill=colour)
            start += _FONT + 5
        pen.text((start, middle), text, fill="black", font=font, anchor="lm")
    return canvas
