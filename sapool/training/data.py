"""Data sets, as Lightning takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from sapool.training.recipe import Recipe


@dataclass(frozen=True)
class Images:
    """Labelled images: uint8, (N, 3, H, W), and int64 labels, (N,)."""

    images: Tensor
    labels: Tensor


class Transformed(Dataset[tuple[Tensor, int]]):
    """Images seen through a transform."""

    def __init__(self, data: Images, transform: Callable[[Tensor], Tensor]) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.data.images[index]), int(self.data.labels[index])


def digits() -> tuple[Images, Images, tuple[str, ...]]:
    """scikit-learn's handwritten digits: 1437 images to train on, 360 to test with, always the same, and class names.

    8×8 scans with 17 grey levels (Alpaydin and Kaynak, 1998), shipped in the package.
    """
    bunch = load_digits()
    grey = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8))
    images, labels = grey[:, None].expand(-1, 3, -1, -1), torch.from_numpy(bunch.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=bunch.target, random_state=0)
    return Images(images[train], labels[train]), Images(images[test], labels[test]), tuple(map(str, range(10)))


class DataModule(L.LightningDataModule):
    """The recipe's data set, with a part of its training images held out to choose the best epoch.

    Attributes:
        classes: names of the classes.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        train, test, self.classes = digits()
        kept, held = train_test_split(
            np.arange(len(train.labels)),
            test_size=recipe.data.validation,
            stratify=train.labels.numpy(),
            random_state=recipe.train.seed,
        )
        size = recipe.data.image_size
        plain = v2.Compose(
            [v2.Resize((size, size)), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
        )
        shifted = v2.Compose([v2.Resize((size, size)), v2.RandomCrop(size, padding=size // 8), *plain.transforms[1:]])
        self.train = Transformed(Images(train.images[kept], train.labels[kept]), shifted)
        self.validation = Transformed(Images(train.images[held], train.labels[held]), plain)
        self.test = Transformed(test, plain)

    def _loader(self, data: Transformed, **options: Any) -> DataLoader[tuple[Tensor, int]]:
        workers = self.recipe.data.workers
        return DataLoader(
            data, self.recipe.train.batch_size, num_workers=workers, persistent_workers=workers > 0, **options
        )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        # A last batch of one image would leave batch norm nothing to average.
        return self._loader(self.train, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        return self._loader(self.validation)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        return self._loader(self.test)
