"""What a recipe says of the images that a network takes: channels, sizes, statistics. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from sapool.ir.options import MOST_CHANNELS
from sapool.recipes.section import Section

LARGEST_SIDE = 2**13

Sides = tuple[int, int]
"""Height and width in pixels."""

GREY = (0.299, 0.587, 0.114)
"""What red, green and blue are worth in grey (ITU-R BT.601, as Pillow has it)."""

_ALPHA = 0.5  # mean and deviation of opacity: an opaque pixel becomes 1


class Model(Section):
    """What of the network its architecture doesn't say."""

    in_chans: int = Field(
        3, ge=1, le=MOST_CHANNELS, description="channels of the images: 1 grey, 2 grey and opacity, 3 red, green and "
        "blue, 4 these and opacity; other numbers where the data set has as many, or is grey"
    )  # fmt: skip


def _read_size(value: object) -> object:
    """A side, or height and width: `[96, 160]`, or `96x160` on a command line. Equal ones are one side."""
    if isinstance(value, str) and re.fullmatch(r"\d+(x\d+)?", value.lower()):
        value = [int(side) for side in value.lower().split("x")]
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(sides) not in (1, 2) or not all(type(side) is int and 8 <= side <= LARGEST_SIDE for side in sides):
        raise ValueError(f"expected a side of 8 to {LARGEST_SIDE} pixels, or height and width such as [96, 160]")
    return sides[0] if len(set(sides)) == 1 else tuple(sides)


_SIDE = {"type": "integer", "minimum": 8, "maximum": LARGEST_SIDE}

ImageSize = Annotated[
    int | Sides,
    BeforeValidator(_read_size),
    WithJsonSchema({"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 1, "maxItems": 2}]}),
]
"""A side in pixels, or (height, width)."""


def sides_of(size: int | Sides) -> Sides:
    """Height and width of a size."""
    return (size, size) if isinstance(size, int) else size


def size_text(size: int | Sides) -> str:
    """A size as people write it: `224`, or `96x160`."""
    return str(size) if isinstance(size, int) else "x".join(map(str, size))


def _read_channels(value: object) -> object:
    """Numbers of each channel; a single one is of all of them."""
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Channels = Annotated[tuple[float, ...], BeforeValidator(_read_channels), Field(min_length=1, max_length=MOST_CHANNELS)]


def positive(value: tuple[float, ...]) -> tuple[float, ...]:
    """What channels are divided by.

    Raises:
        ValueError: one can't be.
    """
    if min(value) <= 0:
        raise ValueError("expected positive numbers")
    return value


def statistics(own: Sequence[float], channels: int) -> tuple[float, ...]:
    """Means or deviations of a data set's channels, as they are of images with another number of them.

    Grey is the weighted sum of red, green and blue, exact for means, and for deviations where the three go together.
    """
    if len(own) == channels:
        return tuple(own)
    grey = own[0] if len(set(own)) == 1 or len(own) != len(GREY) else _rounded(own)
    colours = tuple(own) if len(own) == len(GREY) else (grey,) * len(GREY)
    usual = {1: (grey,), 2: (grey, _ALPHA), 3: colours, 4: (*colours, _ALPHA)}
    return usual.get(channels, (grey,) * channels)


def _rounded(own: Sequence[float]) -> float:
    return round(sum(part * weight for part, weight in zip(own, GREY, strict=True)), 4)


def with_statistics(data: Mapping[str, Any], channels: object, own: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """A section of data with a mean and a deviation for each channel, before it is validated.

    Args:
        data: as it was given.
        channels: of the images, as they were given; left to validation where it is no number.
        own: the data set's `mean` and `std`, for what isn't given.
    """
    filled = dict(data)
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS:
        return filled
    for name, values in own.items():
        found = _read_channels(filled.get(name, statistics(values, channels)))
        filled[name] = list(found) * channels if isinstance(found, (list, tuple)) and len(found) == 1 else found
    return filled


def check_statistics(channels: int, **found: Sequence[float]) -> None:
    """Refuses a mean or a deviation of other channels than the images have.

    Raises:
        ValueError: names both settings.
    """
    for name, values in found.items():
        if len(values) != channels:
            numbers, images = (f"{n} {what}{'' if n == 1 else 's'}" for n, what in
                               ((len(values), "number"), (channels, "channel")))  # fmt: skip
            raise ValueError(f"data.{name} has {numbers}, and the images have {images} (model.in_chans)")
