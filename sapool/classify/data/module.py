"""A recipe's data set, as Lightning takes it."""

from __future__ import annotations

import lightning as L
import numpy as np
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from sklearn.model_selection import train_test_split
from torch.utils.data import DistributedSampler

from sapool.classify.data import transforms
from sapool.classify.data.images import ImageFiles
from sapool.classify.data.samples import Samples
from sapool.classify.data.sources import open_data
from sapool.errors import InputError
from sapool.recipes.settings import Recipe
from sapool.runs.channels import with_channels
from sapool.training.loading import Loader


class DataModule(L.LightningDataModule):
    """The recipe's data set; unless `select` is "test", with a part of its training images held out, stratified.

    Attributes:
        classes: names of the classes.
        train, selection, test: what is trained on, what chooses the best epoch, what is reported.

    Raises:
        InputError: the data set isn't there, is too small for the recipe, or has images of other channels.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        opened = open_data(recipe.data)
        self.classes = opened.classes
        random, fixed = transforms.training(recipe.data), transforms.evaluation(recipe.data)
        normalise, seed, channels = transforms.normalise(recipe.data), recipe.train.seed, recipe.model.in_chans
        if not isinstance(opened.train, ImageFiles):  # files may differ, and are met one by one
            with_channels(opened.train.image(0), channels)
        self.test = Samples(opened.test, range(len(opened.test.labels)), fixed, normalise, None, channels)
        everything = np.arange(len(opened.train.labels))
        if recipe.select == "test":
            kept, self.selection = everything, self.test
        else:
            kept, held = _split(everything, opened.train.labels, recipe)
            self.selection = Samples(opened.train, held.tolist(), fixed, normalise, None, channels)
        self.train = Samples(opened.train, kept.tolist(), random, normalise, seed, channels)
        processes, size = recipe.train.processes, recipe.train.batch_size
        if len(kept) < size * processes:
            raise InputError(
                f"{len(kept)} training images don't fill a batch of {size * processes}; lower train.batch_size"
            )
        if not recipe.train.drop_last and len(kept) // processes % size == 1:
            raise InputError(
                f"{len(kept)} training images leave one for the last batch of {size}, and batch norm needs two; choose "
                "another train.batch_size, or train.drop_last=true"
            )

    def train_dataloader(self) -> Loader:
        train = self.recipe.train
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        order: DistributedSampler[object] = DistributedSampler(
            self.train, world, rank, shuffle=True, seed=train.seed, drop_last=world > 1
        )
        return self._loader(self.train, order, limit=train.steps_per_epoch, drop_last=train.drop_last)

    def val_dataloader(self) -> Loader:
        return self._evaluation(self.selection)

    def test_dataloader(self) -> Loader:
        return self._evaluation(self.test)

    def _evaluation(self, samples: Samples) -> Loader:
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        # torch's own would repeat images until every process has as many, and count them twice.
        order: object = UnrepeatedDistributedSampler(samples, world, rank, shuffle=False) if world > 1 else None
        return self._loader(samples, order)

    def _loader(self, samples: Samples, order: object, *, limit: int | None = None, drop_last: bool = False) -> Loader:
        return Loader(
            samples,
            order,
            self.recipe.train.batch_size,
            workers=self.recipe.data.workers,
            limit=limit,
            drop_last=drop_last,
            pin=torch.cuda.is_available() and self.recipe.train.accelerator != "cpu",
        )


def _split(everything: np.ndarray, labels: torch.Tensor, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    try:
        kept, held = train_test_split(
            everything, test_size=recipe.data.validation, stratify=labels.numpy(), random_state=recipe.train.seed
        )
    except ValueError as error:
        raise InputError(
            f"{len(everything)} training images can't be split with data.validation={recipe.data.validation}: {error}"
        ) from None
    # Sorted, so that the order of training is the sampler's alone.
    return np.sort(kept), np.sort(held)
