"""Labelled images, in memory or in files, as every reader of a data set gives them.

Every source is ordered by class, and inside a class as it is stored. So the same images read from a packed file and
from class folders have the same indices, and with them the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torchvision import datasets

from sapool.errors import InputError
from sapool.runs.images import read_stored


class Source(Protocol):
    """Labelled images.

    Attributes:
        labels: int64, (N,).
    """

    labels: Tensor

    def image(self, index: int) -> Tensor:
        """One image in the channels that it has: uint8, (C, H, W)."""
        ...


class InMemoryImages:
    """Images of one size, in memory: uint8, (N, C, H, W), and labels, (N,)."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        order = torch.sort(labels, stable=True).indices
        self.images, self.labels = images[order], labels[order]

    def image(self, index: int) -> Tensor:
        return self.images[index]


class ImageFiles:
    """Images in a folder of class folders."""

    def __init__(self, folder: datasets.ImageFolder) -> None:
        self.paths = [path for path, _ in folder.samples]
        self.labels = torch.tensor(folder.targets, dtype=torch.int64)

    def image(self, index: int) -> Tensor:
        path = self.paths[index]
        if not Path(path).exists():
            raise InputError(
                f"the image {path} was there when the run began and is gone; put it back and go on with --resume"
            )
        return read_stored(path)


@dataclass(frozen=True)
class Splits:
    """A data set that was found: its two parts and the names of its classes."""

    train: Source
    test: Source
    classes: tuple[str, ...]
