"""The catalogue of data sets to classify. No torch here: recipes are checked against it before torch loads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from sapool.catalogue.registry import Registry
from sapool.errors import InputError

Augmentation = Literal["padded_crop", "resized_crop", "none"]
Triple = tuple[float, float, float]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class DataSet:
    """One data set, and how the published code prepares it.

    Attributes:
        name: as recipes spell it.
        title: its name in messages.
        target: `module:function` that reads it: given this entry and the folder that holds it (or None), it returns
            `sapool.classify.data.sources.Splits`.
        options: what that function finds in the entry.
        size: side of the images, in pixels, where the recipe gives none.
        augment: `padded_crop` (pad by an eighth, random crop) or `resized_crop` (random resized crop), for training.
        flip: whether training images are mirrored at random.
        mean, std: per channel, of pixel values between 0 and 1.
        crop_ratio: for testing, the part of the resized image's shorter side that the centre crop keeps.
        parts: what its folder must hold, each under one of some names, where it can't be downloaded.
        get: how to get it where it can't be downloaded; a clause after "get it:".
        rank: where it stands in listings.
    """

    name: str
    title: str
    target: str
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    size: int = 224
    augment: Augmentation = "resized_crop"
    flip: bool = False
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)
    crop_ratio: float = 1.0
    parts: tuple[tuple[str, ...], ...] = ()
    get: str = ""
    rank: int = 100


DATA_SETS: Registry[DataSet] = Registry(
    "data set",
    decorator="register_data_set",
    entry=DataSet,
    group="sapool.data_sets",
    modules=("sapool.classify.data.sources",),
)
"""Every data set by its name, in the order of listings."""


def register_data_set(name: str, *, title: str, **fields: Any) -> Callable[[F], F]:
    """Declares a data set: decorates the function that reads it.

    Args:
        name: how recipes spell it (`data.name`).
        title: its name in messages.
        fields: the other attributes of `DataSet`.

    Raises:
        ValueError: the name is taken, or can't be one.
    """
    return DATA_SETS.register(name, title=title, **fields)


def missing(entry: DataSet, looked_for: str, where: Path | str, why: str = "") -> InputError:
    """What to say of a data set that isn't there."""
    return InputError(f"{entry.title} isn't there: looked for {looked_for} in {where}{why}. To get it: {entry.get}.")


def check_parts(entry: DataSet, root: Path) -> None:
    """Looks whether a folder holds the parts of a data set; reads none of them.

    Raises:
        InputError: one isn't there.
    """
    if not all(any((root / name).exists() for name in names) for names in entry.parts):
        raise missing(entry, " and ".join(f"{names[0]}/CLASS/IMAGE" for names in entry.parts), root)


def default_root() -> Path:
    """Where data sets are kept unless a recipe says otherwise: `sapool/data` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The specification tells to ignore relative paths.
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "sapool" / "data"
