"""The channels of images: as a file stores them, and as many as a network takes."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from sapool.errors import InputError

_OPAQUE = 255
_NAMES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels
# Pillow's weights of red, green and blue in grey, over 2^16.
_RED, _GREEN, _BLUE, _SHIFT = 19595, 38470, 7471, 16


def stored(image: Image.Image) -> Tensor:
    """The pixels of an opened image in the channels that it has: uint8 (1 to 4, H, W).

    1 is grey, 2 grey and opacity, 3 red, green and blue, 4 these and opacity. Palettes are looked up, and pixels of 16
    bits lose the lower eight.
    """
    if image.mode.startswith("I"):
        numbers = TF.pil_to_tensor(image.convert("I"))
        wide = image.mode != "I" or int(numbers.max()) > _OPAQUE
        narrow: Tensor = (numbers >> 8 if wide else numbers).clamp(0, _OPAQUE).byte()
        return narrow
    if image.mode not in _NAMES.values():
        grey, clear = image.mode in ("1", "F", "La"), "transparency" in image.info or image.mode in ("PA", "RGBa")
        image = image.convert("L" if grey else "RGBA" if clear else "RGB")
    pixels: Tensor = TF.pil_to_tensor(image)
    return pixels


def with_channels(image: Tensor, channels: int) -> Tensor:
    """An image with as many channels as a network takes: uint8 (C, H, W) to (channels, H, W), as Pillow converts.

    Grey goes to every channel of colour, colours become grey by their brightness; what had no opacity is opaque. Where
    more than four channels are wanted, an image has them, or is grey and goes to each.

    Raises:
        InputError: it can't have so many; names `model.in_chans`.
    """
    own = image.shape[0]
    if own == channels:
        return image
    if own == 1 and channels > max(_NAMES):
        return image.expand(channels, -1, -1)
    if own not in _NAMES or channels not in _NAMES:
        raise InputError(
            f"the images have {own} channels, which aren't {channels}: set model.in_chans (in_chans) to {own}, or give "
            f"images with {channels}"
        )
    coloured, clear = channels in (3, 4), own in (2, 4)
    colours = image[:3] if own in (3, 4) else image[:1]
    if coloured and len(colours) == 1:
        colours = colours.expand(3, -1, -1)
    elif not coloured and len(colours) == 3:
        colours = grey(colours)
    if channels in (1, 3):
        return colours
    opacity = image[-1:] if clear else torch.full_like(image[:1], _OPAQUE)
    return torch.cat([colours, opacity])


def grey(colours: Tensor) -> Tensor:
    """The brightness of red, green and blue, as Pillow rounds it: uint8 (3, H, W) to (1, H, W)."""
    red, green, blue = colours.to(torch.int64)
    sums: Tensor = red * _RED + green * _GREEN + blue * _BLUE + (1 << (_SHIFT - 1))
    return (sums >> _SHIFT).byte()[None]


def shown(image: Tensor) -> Tensor:
    """An image as people look at it, red first: uint8 (C, H, W) to (3, H, W)."""
    if image.shape[0] in _NAMES:
        return with_channels(image, 3)
    return image.float().mean(0, keepdim=True).round().byte().expand(3, -1, -1)
