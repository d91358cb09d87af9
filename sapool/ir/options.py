"""What one asks of a network besides its architecture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from sapool.errors import InputError

Dialect = Literal["torchvision", "paper"]

# Upper bounds that no network needs, so that a slip of the keyboard is an error and not an allocation.
LARGEST_SIDE, MOST_CLASSES, MOST_CHANNELS = 1 << 14, 1 << 20, 1 << 12


@dataclass(frozen=True)
class Options:
    """Everything that `compile` is told besides the text, checked.

    Attributes:
        dialect: `torchvision`, or `paper` for the published network where the two differ.
        num_classes: outputs of the classifier.
        in_chans: channels of the images.
        image_size: (height, width) of the images that maps are measured with; a number for squares.
        features_only: whether the model returns stage outputs in place of logits.
        out_indices: which ones, from 0; None for all.

    Raises:
        InputError: a value that can't be used; names the option.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    dialect: Dialect = "torchvision"
    num_classes: int = 1000
    in_chans: int = 3
    image_size: tuple[int, int] = (224, 224)
    features_only: bool = False
    out_indices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", _size(self.image_size))
        if self.dialect not in get_args(Dialect):
            raise InputError(f"dialect: expected {' or '.join(get_args(Dialect))}, not '{self.dialect}'")
        # A backbone of the caller's own may have no classifier, where only its maps are wanted.
        _check_number("num_classes", self.num_classes, 0 if self.features_only else 1, MOST_CLASSES)
        _check_number("in_chans", self.in_chans, 1, MOST_CHANNELS)
        if self.out_indices is not None:
            indices = tuple(self.out_indices)
            object.__setattr__(self, "out_indices", indices)
            if not self.features_only:
                raise InputError("out_indices chooses among feature maps: it needs features_only=True")
            if not indices or len(set(indices)) != len(indices):
                raise InputError(f"out_indices: expected different stage numbers, not {list(indices)}")

    @property
    def size_text(self) -> str:
        """The image size as `height`x`width`."""
        return "x".join(map(str, self.image_size))


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}: expected a positive number, not {value}")
    if value > most:
        raise InputError(f"{name}: expected {most} at most, not {value}")


def _size(given: int | Iterable[int]) -> tuple[int, int]:
    sides = (given, given) if isinstance(given, int) else tuple(given)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise InputError(f"image_size: expected a positive number of pixels, not {given}; or (height, width)")
    if max(sides) > LARGEST_SIDE:
        raise InputError(f"image_size: expected {LARGEST_SIDE} pixels at most, not {max(sides)}")
    return (sides[0], sides[1])
