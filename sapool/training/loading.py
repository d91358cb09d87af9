"""Batches whose order and randomness are functions of (seed, epoch, index), so that an epoch can be entered anywhere.

Nothing here depends on how many processes load, on what was drawn before, or on where a run was interrupted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler

from sapool.errors import InputError
from sapool.runs.process.workers import end_with_parent


class Seeded(Dataset[Any], ABC):
    """Samples that are read a batch at a time, and varied at random as the epoch says and nothing else.

    Attributes:
        epoch: the number of the epoch, from 0.
    """

    def __init__(self) -> None:
        # In shared memory, for workers that live longer than an epoch.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, positions: Sequence[int]) -> Any:
        """A batch: the samples at these positions."""

    def __getitem__(self, position: int) -> Any:
        return self.__getitems__([position])


def seed_of(*numbers: int) -> int:
    """One 64-bit seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class ErrorsAsData(Dataset[Any]):
    """A data set whose unreadable images arrive as messages.

    An exception crosses from a worker as its whole traceback in a string; a message stays what it is.
    """

    def __init__(self, samples: Seeded) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Any:
        return self.__getitems__([position])

    def __getitems__(self, positions: Sequence[int]) -> Any:
        try:
            return self.samples.__getitems__(positions)
        except InputError as error:
            return str(error)


class Loader(DataLoader[Any]):
    """torch's loader for `Seeded` samples, which Lightning can stop inside an epoch and go on with (`_Stateful`).

    Args:
        samples: the data.
        sampler: their order; None for that of the data.
        batch_size: of each batch.
        workers: processes that load.
        limit: batches in an epoch at most.
        drop_last: leave out a last smaller batch.
        pin: page-locked memory, for copying to a GPU.
    """

    def __init__(
        self,
        samples: Seeded,
        sampler: Any,
        batch_size: int,
        *,
        workers: int = 0,
        limit: int | None = None,
        drop_last: bool = False,
        pin: bool = False,
    ) -> None:
        batches = _WindowedBatchSampler(sampler if sampler is not None else range(len(samples)), batch_size, drop_last)
        super().__init__(
            ErrorsAsData(samples),
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_as_is,
            pin_memory=pin,
            worker_init_fn=end_with_parent,
            generator=torch.Generator(),  # so that a loader draws nothing from torch's own
        )
        self.samples, self.batches, self.limit = samples, batches, limit
        self.start = self.given = 0

    def __len__(self) -> int:
        return min(len(self.batches), self.limit or len(self.batches))

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # Runs at the first `next`, by when Lightning has told the sampler its epoch.
        sampler = self.batches.sampler
        if isinstance(sampler, DistributedSampler):
            self.samples.epoch.fill_(sampler.epoch)
        self.batches.window = (self.start, len(self))
        self.given, self.start = self.start, 0
        for batch in super().__iter__():
            if isinstance(batch, str):
                raise InputError(batch)
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch were given."""
        return {"given": self.given % max(len(self), 1)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Lets the next epoch begin after the batches that were given."""
        self.start = state["given"]


class _WindowedBatchSampler(BatchSampler):
    """torch's batches of one epoch, a window of them."""

    window: tuple[int, int | None] = (0, None)

    def __iter__(self) -> Iterator[list[int]]:
        return islice(super().__iter__(), *self.window)


def _as_is(batch: Any) -> Any:
    return batch
