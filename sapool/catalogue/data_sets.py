"""The data sets that recipes can name, as a table. No torch here: recipes are checked against it before torch loads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Augmentation = Literal["padded_crop", "resized_crop", "none"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class DataSet:
    """One data set, and how the published code prepares it.

    Attributes:
        title: its name in messages.
        reader: which function of `sapool.classify.data.sources` opens it.
        options: what that function is told.
        size: side of the images, in pixels, where the recipe gives none.
        augment: `padded_crop` (pad by an eighth, random crop) or `resized_crop` (random resized crop), for training.
        flip: whether training images are mirrored at random.
        mean, std: per channel, of pixel values between 0 and 1.
        crop_ratio: for testing, the part of the resized image's shorter side that the centre crop keeps.
        get: how to get it where it can't be downloaded; a clause after "get it:".
    """

    title: str
    reader: str
    options: Mapping[str, str]
    size: int
    augment: Augmentation
    flip: bool
    mean: Triple
    std: Triple
    crop_ratio: float = 1.0
    get: str = ""


_HALF: Triple = (0.5, 0.5, 0.5)
_IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_IDX = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (or .gz)"


def _grey(value: float) -> Triple:
    return (value, value, value)


DATA_SETS: Mapping[str, DataSet] = MappingProxyType(
    {
        "digits": DataSet("scikit-learn's digits", "digits", {}, 32, "padded_crop", False, _HALF, _HALF),
        "mnist": DataSet(
            "MNIST", "idx", {"cls": "MNIST"}, 32, "padded_crop", False, _grey(0.1307), _grey(0.3081),
            get=f"put {_IDX} into that folder, or name theirs with data.root",
        ),
        "fashion_mnist": DataSet(
            "Fashion-MNIST", "idx", {"cls": "FashionMNIST", "system": "/usr/share/datasets/fashion-mnist"},
            32, "padded_crop", True, _grey(0.2860), _grey(0.3530),
            get=f"install Debian's package dataset-fashion-mnist, or put {_IDX} into that folder, or name theirs with "
            "data.root",
        ),
        "cifar10": DataSet(
            "CIFAR-10", "cifar", {"cls": "CIFAR10", "folder": "cifar-10-batches-py"}, 32, "padded_crop", True,
            (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010),
            get="unpack cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html there",
        ),
        "cifar100": DataSet(
            "CIFAR-100", "cifar", {"cls": "CIFAR100", "folder": "cifar-100-python"}, 32, "padded_crop", True,
            (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761),
            get="unpack cifar-100-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html there",
        ),
        "stl10": DataSet(
            "STL-10", "stl10", {"folder": "stl10_binary"}, 96, "resized_crop", True, _HALF, _HALF,
            get="unpack stl10_binary.tar.gz from https://cs.stanford.edu/~acoates/stl10 there",
        ),
        "imagenet": DataSet(
            "ImageNet", "imagenet", {}, 224, "resized_crop", True, *_IMAGENET, crop_ratio=0.875,
            get="put the class folders of ILSVRC 2012 into train/ and val/ there (its archives can't be downloaded "
            "without an account at https://image-net.org)",
        ),
        "folder": DataSet(
            "the image folder", "folder", {}, 224, "resized_crop", True, *_IMAGENET, crop_ratio=0.875,
            get="set data.root to a folder that holds train/CLASS/IMAGE and test/CLASS/IMAGE",
        ),
    }
)  # fmt: skip


def default_root() -> Path:
    """Where data sets are kept unless a recipe says otherwise: `sapool/data` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The specification tells to ignore relative paths.
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "sapool" / "data"
