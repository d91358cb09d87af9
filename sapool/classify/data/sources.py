"""Opening data sets: training and test images as they are stored, through torchvision's readers where it has one."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision import datasets

from sapool.catalogue.data_sets import DATA_SETS, DataSet, check_parts, default_root, missing, register_data_set
from sapool.classify.data.images import ImageFiles, InMemoryImages, Splits
from sapool.errors import InputError
from sapool.recipes.settings import Data

_MOST_BYTES = 2**30  # of a packed file's images


def open_data(data: Data) -> Splits:
    """The data set that a recipe names, downloaded first where torchvision can.

    Raises:
        InputError: it isn't there, or is damaged; says what was looked for, where, and how to get it.
    """
    reader: Callable[[DataSet, Path | None], Splits] = DATA_SETS.load(data.name)
    return reader(DATA_SETS[data.name], Path(data.root) if data.root else None)


@register_data_set("digits", title="scikit-learn's digits", size=32, augment="padded_crop", rank=0)
def read_digits(entry: DataSet, root: Path | None) -> Splits:
    """1437 images to train on, 360 to test with, always the same: 8×8 scans (Alpaydin and Kaynak, 1998)."""
    bunch = load_digits()
    grey = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=bunch.target, random_state=0)
    return Splits(
        InMemoryImages(grey[train], labels[train]), InMemoryImages(grey[test], labels[test]), tuple(map(str, range(10)))
    )


@register_data_set(
    "mnist",
    title="MNIST",
    options={"cls": "MNIST"},
    size=32,
    augment="padded_crop",
    mean=(0.1307, 0.1307, 0.1307),
    std=(0.3081, 0.3081, 0.3081),
    get="put train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (or "
    ".gz) into that folder, or name theirs with data.root",
    rank=1,
)
@register_data_set(
    "fashion_mnist",
    title="Fashion-MNIST",
    options={"cls": "FashionMNIST", "system": "/usr/share/datasets/fashion-mnist"},
    size=32,
    augment="padded_crop",
    flip=True,
    mean=(0.2860, 0.2860, 0.2860),
    std=(0.3530, 0.3530, 0.3530),
    get="install Debian's package dataset-fashion-mnist, or put train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (or .gz) into that folder, or name theirs with data.root",
    rank=2,
)
def read_idx_files(entry: DataSet, root: Path | None) -> Splits:
    """Files of MNIST's format, packed or not, where torchvision, a user or Debian puts them."""
    cls: type[datasets.MNIST] = getattr(datasets, entry.options["cls"])
    base = root or default_root()
    raw = base / cls.__name__ / "raw"
    places = [base, raw, *([Path(entry.options["system"])] if "system" in entry.options and root is None else [])]
    found = next((place for place in places if _idx_file(place, "train-images-idx3-ubyte")), None)
    if found is None:
        found = raw
        _download(entry, base, "train-images-idx3-ubyte", lambda: cls(base, download=True))

    def part(prefix: str) -> InMemoryImages:
        arrays = []
        for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
            name = f"{prefix}-{kind}-ubyte"
            path = _idx_file(found, name)
            if path is None:
                raise missing(entry, name, found)
            arrays.append(_read_idx_file(path, dimensions))
        images, labels = arrays
        if len(images) != len(labels):
            raise InputError(
                f"{found}: {len(images)} images and {len(labels)} labels of '{prefix}' don't belong together"
            )
        return InMemoryImages(images[:, None], labels.long())

    return Splits(part("train"), part("t10k"), tuple(cls.classes))


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_idx_file(path: Path, dimensions: int) -> Tensor:
    """An array of the MNIST files' format, packed or not: 0, 0, type, rank, big-endian sizes, bytes."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read(header := 4 + 4 * dimensions)
            sizes = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
            expected = math.prod(sizes)
            if expected > _MOST_BYTES:
                raise InputError(
                    f"{path} is damaged: it says that it holds {expected:,} bytes, and at most {_MOST_BYTES:,} are read"
                )
            content += file.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again") from None
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) != header + expected:
        raise InputError(f"{path} is damaged: it isn't an idx file of {dimensions} dimensions; fetch it again")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(sizes)


@register_data_set(
    "cifar10",
    title="CIFAR-10",
    options={"cls": "CIFAR10", "folder": "cifar-10-batches-py"},
    size=32,
    augment="padded_crop",
    flip=True,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    get="unpack cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html there",
    rank=3,
)
@register_data_set(
    "cifar100",
    title="CIFAR-100",
    options={"cls": "CIFAR100", "folder": "cifar-100-python"},
    size=32,
    augment="padded_crop",
    flip=True,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    get="unpack cifar-100-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html there",
    rank=4,
)
def read_cifar(entry: DataSet, root: Path | None) -> Splits:
    """CIFAR's batches as torchvision reads them (Krizhevsky, 2009)."""
    cls: type[datasets.CIFAR10] = getattr(datasets, entry.options["cls"])
    base = root or default_root()

    def part(train: bool) -> InMemoryImages:
        stored = _stored(entry, base, lambda download: cls(base, train=train, download=download))
        return InMemoryImages(
            torch.from_numpy(stored.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(stored.targets)
        )

    parts = part(True), part(False)
    return Splits(*parts, tuple(_stored(entry, base, lambda download: cls(base)).classes))


@register_data_set(
    "stl10",
    title="STL-10",
    options={"folder": "stl10_binary"},
    size=96,
    flip=True,
    get="unpack stl10_binary.tar.gz from https://cs.stanford.edu/~acoates/stl10 there",
    rank=5,
)
def read_stl10(entry: DataSet, root: Path | None) -> Splits:
    """The labelled images of STL-10 (Coates et al., AISTATS 2011)."""
    base = root or default_root()

    def part(split: str) -> datasets.STL10:
        stored = _stored(entry, base, lambda download: datasets.STL10(base, split=split, download=download))
        assert isinstance(stored, datasets.STL10)
        return stored

    train, test = part("train"), part("test")

    def packed(stored: datasets.STL10) -> InMemoryImages:
        return InMemoryImages(
            torch.from_numpy(stored.data), torch.from_numpy(np.asarray(stored.labels).astype(np.int64))
        )

    return Splits(packed(train), packed(test), tuple(train.classes))


def _stored(entry: DataSet, base: Path, make: Callable[[bool], Any]) -> Any:
    """What torchvision reads, downloaded where it isn't there."""
    folder = entry.options["folder"]
    try:
        if not (base / folder).is_dir():
            _download(entry, base, folder, lambda: make(True))
        return make(False)
    except (OSError, EOFError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{base / folder} is damaged or incomplete ({error}). To get it: {entry.get}.") from None


def _download(entry: DataSet, base: Path, looked_for: str, fetch: Callable[[], Any]) -> None:
    try:
        base.mkdir(parents=True, exist_ok=True)
        # Several processes of one run, or two runs, may want the same files.
        with FileLock(base / f".{looked_for}.lock"):
            fetch()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(getattr(error, "reason", error)).splitlines()
        why = f", and downloading it failed ({reason[0] if reason else type(error).__name__})"
        raise missing(entry, looked_for, base, why) from None


@register_data_set(
    "imagenet",
    title="ImageNet",
    flip=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_ratio=0.875,
    parts=(("train", "ILSVRC2012_devkit_t12.tar.gz", "meta.bin"), ("val", "ILSVRC2012_devkit_t12.tar.gz", "meta.bin")),
    get="put the class folders of ILSVRC 2012 into train/ and val/ there (its archives can't be downloaded without an "
    "account at https://image-net.org)",
    rank=6,
)
def read_imagenet(entry: DataSet, root: Path | None) -> Splits:
    """ILSVRC 2012 from its archives, which torchvision unpacks, or from class folders."""
    base = root or default_root() / entry.name
    if (base / "ILSVRC2012_devkit_t12.tar.gz").is_file() or (base / "meta.bin").is_file():
        try:
            parts = [datasets.ImageNet(base, split) for split in ("train", "val")]
        except (OSError, RuntimeError) as error:
            raise missing(entry, "its archives or its class folders", base, f" ({error})") from None
        return Splits(ImageFiles(parts[0]), ImageFiles(parts[1]), tuple(names[0] for names in parts[0].classes))
    return _class_folders(entry, base, ("val",))


@register_data_set(
    "folder",
    title="the image folder",
    flip=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_ratio=0.875,
    parts=(("train",), ("test", "val", "validation")),
    get="set data.root to a folder that holds train/CLASS/IMAGE and test/CLASS/IMAGE",
    rank=7,
)
def read_folders(entry: DataSet, root: Path | None) -> Splits:
    """Anyone's images, in a folder of class folders for each part."""
    if root is None:
        raise InputError(f"{entry.title} isn't named. To do so: {entry.get}.")
    return _class_folders(entry, root, ("test", "val", "validation"))


def _class_folders(entry: DataSet, base: Path, tests: tuple[str, ...]) -> Splits:
    check_parts(entry, base)
    test = next(name for name in tests if (base / name).exists())
    try:
        train, held = (datasets.ImageFolder(base / name) for name in ("train", test))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{base} can't be used: {str(error).splitlines()[0]}. To get it: {entry.get}.") from None
    if train.classes != held.classes:
        odd = sorted(set(train.classes) ^ set(held.classes))
        raise InputError(f"{base}: the class folders of train and {test} differ: {', '.join(odd[:5])}")
    return Splits(ImageFiles(train), ImageFiles(held), tuple(train.classes))
