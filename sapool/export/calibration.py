"""The images that integers are fitted to, and that every file is compared on with the model it was written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from sapool.catalogue.data_sets import DATA_SETS
from sapool.errors import InputError
from sapool.recipes.settings import Recipe
from sapool.runs.folder import RECIPE, recipe_of
from sapool.runs.images import read_image

COUNT = 128
"""Images that are drawn from a folder or a training set."""
NOISE = "noise"
_CHECKED = 32
_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Preparation:
    """What becomes of an image before the network sees it, and what its outputs are called.

    Attributes:
        mean, std: per channel, of pixel values between 0 and 1; None where it isn't known.
        classes: names, by label; () where they aren't known.
        origin: where that comes from, in words.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()
    origin: str = "not known"


@dataclass(frozen=True)
class Calibration:
    """Images, prepared as the network takes them.

    Attributes:
        images: float32, (N, C, H, W).
        origin: where they come from, for the table.
        noise: whether they are no images, so that figures of accuracy mean little.
    """

    images: Tensor
    origin: str
    noise: bool = False


def noise(channels: int, size: tuple[int, int], count: int = _CHECKED, seed: int = 0) -> Calibration:
    """Normal noise of about the range that prepared images have: the same for the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, channels, *size, generator=generator)
    return Calibration(images, f"{count} images of normal noise, seed {seed}", noise=True)


def is_run(given: object) -> bool:
    """Whether what was named is the folder of a run."""
    return isinstance(given, (str, Path)) and (Path(given) / RECIPE).is_file()


def preparation_of(path: str | Path) -> Preparation:
    """How a run prepares its images, and its classes.

    Raises:
        InputError: there is no run, or it is no classifier's.
    """
    from sapool.tasks import open_run  # noqa: PLC0415 - the extra `train`

    data = _recipe(Path(path)).data
    return Preparation(tuple(data.mean), tuple(data.std), tuple(open_run(path).classes), f"the run {path}")


def calibration_of(
    given: Tensor | str | Path | None,
    channels: int,
    size: tuple[int, int],
    preparation: Preparation,
    *,
    count: int = COUNT,
    seed: int = 0,
) -> Calibration | None:
    """The images that someone names.

    Args:
        given: images as the network takes them, the folder of a run, whose training images they are, a folder of
            images, or "noise".
        channels, size: what the network takes; images of a folder are brought to that.
        preparation: mean and deviation for a folder's images; ImageNet's where it has none.
        count: how many are drawn.
        seed: of the draw.

    Raises:
        InputError: there are no such images, or they aren't of that shape.
    """
    if given is None:
        return None
    if isinstance(given, Tensor):
        if given.dim() != 4 or tuple(given.shape[1:]) != (channels, *size) or not len(given):
            shape = f"(N, {channels}, {size[0]}, {size[1]})"
            raise InputError(f"calibrate: expected images of shape {shape}, not {tuple(given.shape)}")
        return Calibration(given.detach().float().cpu(), f"{len(given)} images given")
    path = Path(given)
    if str(given) == NOISE:
        return noise(channels, size, seed=seed)
    if is_run(path):
        return _of_run(path, channels, size, count, seed)
    if not path.is_dir():
        raise InputError(f"calibrate: {given} is no folder; name a folder of images, a run, or '{NOISE}'")
    return _of_folder(path, channels, size, preparation, count, seed)


def _of_run(path: Path, channels: int, size: tuple[int, int], count: int, seed: int) -> Calibration:
    from sapool.classify.samples import training_images  # noqa: PLC0415 - the extra `train`

    images = training_images(_recipe(path), count, seed)
    if tuple(images.shape[1:]) != (channels, *size):
        theirs, ours = "x".join(map(str, images.shape[1:])), "x".join(map(str, (channels, *size)))
        raise InputError(f"calibrate: the images of the run {path} are of {theirs}, and the network takes {ours}")
    return Calibration(images, f"{len(images)} training images of {path}, seed {seed}")


def _of_folder(
    path: Path, channels: int, size: tuple[int, int], preparation: Preparation, count: int, seed: int
) -> Calibration:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _ENDINGS)
    if not files:
        raise InputError(f"calibrate: there are no images in {path}, nor a run")
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    pixels = torch.stack([_fitted(read_image(files[index]), channels, size) for index in order])
    entry = DATA_SETS["imagenet"]
    mean, std = (
        _per_channel(preparation.mean or entry.mean, channels),
        _per_channel(preparation.std or entry.std, channels),
    )
    images = (pixels - mean) / std
    by = preparation.origin if preparation.mean is not None else "ImageNet"
    return Calibration(images, f"{len(images)} images of {path}, normalised as {by} is, seed {seed}")


def _fitted(image: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """An image of the size and the channels that the network takes, with values between 0 and 1."""
    if channels not in (1, 3):
        raise InputError(f"calibrate: images have 1 or 3 channels, and the network takes {channels}; give tensors")
    grey = TF.rgb_to_grayscale(image) if channels == 1 else image
    fitted: Tensor = TF.to_dtype(TF.resize(grey, list(size), antialias=True), torch.float32, scale=True)
    return fitted


def _per_channel(values: Sequence[float], channels: int) -> Tensor:
    few = tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
    return torch.tensor(few).view(-1, 1, 1)


def _recipe(path: Path) -> Recipe:
    recipe = recipe_of(path)
    if not isinstance(recipe, Recipe):
        raise InputError(f"{path} is the run of a detector; files for devices are written of classifiers")
    return recipe
