"""What is random in training, as a function of the seed and of where training is, never of what was drawn before.

So a run that goes on draws what it would have drawn, with any number of workers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import BatchSampler, Sampler

_IMAGE, _STEP = 0, 1


def enterable(loader: dict[str, Any], seed: int) -> dict[str, Any]:
    """The config of a loader of training images, in which an epoch can be entered anywhere.

    Args:
        loader: as mmdet's configs have it.
        seed: of the run.
    """
    dataset = {"type": SeededDataset.__name__, "dataset": loader["dataset"], "seed": seed}
    batches = {
        "type": EnteredBatchSampler.__name__,
        "drop_last": loader.get("drop_last", False),
        "batches": loader.get("batch_sampler"),
    }
    kept = {name: value for name, value in loader.items() if name != "drop_last"}
    return {**kept, "dataset": dataset, "batch_sampler": batches}


def seed_step(seed: int, epoch: int, batch: int, rank: int) -> None:
    """Seeds what a training step draws: samples of boxes, dropout, sizes of batches.

    Args:
        seed: of the run.
        epoch, batch: where, from 0.
        rank: of the process.
    """
    torch.manual_seed(_seed_python(_STEP, seed, epoch, batch, rank))


def _seed_python(*numbers: int) -> int:
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    return seed


@DATASETS.register_module()
class SeededDataset:
    """A data set whose images are varied by (seed, epoch, image). Everything else is the data set's own.

    Transforms that mix an image with earlier ones keep a cache of those; each epoch begins with an empty one.

    Args:
        dataset: the data set, or its config.
        seed: of the run.

    Attributes:
        epoch: from 0, in shared memory: workers may live longer than an epoch.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.inner = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed = seed
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._seen = 0

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        if (epoch := int(self.epoch)) != self._seen:
            self._seen = epoch
            for cache in self.caches():
                cache.clear()
        torch.default_generator.manual_seed(_seed_python(_IMAGE, self.seed, epoch, index))
        return self.inner[index]

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # while it is being copied or unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def pipeline(self) -> Any:
        """The data set's transforms, which hooks of mmdet replace on the way."""
        return self.inner.pipeline

    @pipeline.setter
    def pipeline(self, value: Any) -> None:
        self.inner.pipeline = value

    def caches(self) -> list[list[Any]]:
        """The caches of its transforms, those of the data sets in it too."""
        found, todo = [], [self.inner]
        while todo:
            one = todo.pop()
            todo += [one.dataset] if hasattr(one, "dataset") else getattr(one, "datasets", [])
            steps = getattr(one, "pipeline", [])
            kept = (getattr(transform, "results_cache", None) for transform in getattr(steps, "transforms", steps))
            found += [cache for cache in kept if isinstance(cache, list)]
        return found


@DATA_SAMPLERS.register_module()
class EnteredBatchSampler:
    """Batches of an epoch that can be entered anywhere.

    Args:
        sampler: the order of images.
        batch_size: images in a batch.
        drop_last: leave out a last smaller batch.
        batches: config of the sampler that makes batches; None for torch's.

    Attributes:
        start: batches that the next epoch leaves out.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool = True,
        batches: dict[str, Any] | None = None,
    ) -> None:
        self.sampler, self.batch_size, self.drop_last, self.start = sampler, batch_size, drop_last, 0
        self.inner: Any = BatchSampler(sampler, batch_size, drop_last)
        if batches is not None:
            own = {"sampler": sampler, "batch_size": batch_size, "drop_last": drop_last}
            self.inner = DATA_SAMPLERS.build(batches, default_args=own)

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        return islice(iter(self.inner), start, None)

    def __len__(self) -> int:
        return len(self.inner)
