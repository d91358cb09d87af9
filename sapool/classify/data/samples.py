"""Labelled images, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sapool.classify.data.images import Source
from sapool.runs.channels import with_channels
from sapool.training.loading import Seeded, seed_of

Batch = tuple[Tensor, Tensor]


class Samples(Seeded):
    """Some images of a source, transformed: (images, labels), float32 (N, C, H, W) and int64 (N,), a batch at a time.

    Args:
        source: the images.
        indices: which of them.
        transform: what each goes through, uint8 to uint8.
        normalise: what a batch goes through.
        seed: of the transform's randomness; None where it has none.
        channels: C, as many as the network takes.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        transform: nn.Module,
        normalise: nn.Module,
        seed: int | None,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.source, self.indices, self.transform, self.normalise = source, list(indices), transform, normalise
        self.seed, self.channels = seed, channels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        chosen = [self.indices[position] for position in positions]
        with torch.random.fork_rng(devices=()):
            images = torch.stack([self._one(index) for index in chosen])
        batch: Tensor = self.normalise(images)
        return batch, self.source.labels[chosen]

    def _one(self, index: int) -> Tensor:
        if self.seed is not None:
            torch.default_generator.manual_seed(seed_of(self.seed, int(self.epoch), index))
        image: Tensor = self.transform(with_channels(self.source.image(index), self.channels))
        return image
