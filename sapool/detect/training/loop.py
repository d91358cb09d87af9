"""mmengine's loop over epochs, which can be entered inside an epoch, or before an epoch's validation."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from sapool.detect.training.seeding import EnteredBatchSampler, SeededDataset, enterable, seed_step


@LOOPS.register_module()
class ResumableLoop(EpochBasedTrainLoop):  # type: ignore[misc]
    """Trains as mmengine's own loop does.

    Attributes:
        entered: batches of the next epoch that were trained before this start.
        validation_due: whether the last epoch's validation is still to come.
    """

    entered: int = 0
    validation_due: bool = False

    def __init__(self, runner: Runner, dataloader: Any, **settings: Any) -> None:
        if isinstance(dataloader, dict):
            dataloader = enterable(dataloader, runner.seed)
        super().__init__(runner, dataloader, **settings)

    def run(self) -> torch.nn.Module:
        """Trains to the last epoch; returns the model."""
        self.runner.call_hook("before_train")
        if self.validation_due:
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            if self.validates(self._epoch):
                self._validate()
        self.runner.call_hook("after_train")
        model: torch.nn.Module = self.runner.model
        return model

    def validates(self, epoch: int) -> bool:
        """Whether validation follows an epoch, counted from 1."""
        return (
            self.runner.val_loop is not None
            and epoch >= self.val_begin
            and (epoch % self.val_interval == 0 or epoch == self._max_epochs)
        )

    def _validate(self) -> None:
        self.validation_due = False
        self.runner.val_loop.run()

    def run_epoch(self) -> None:
        """Trains the rest of an epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        data, batches = self.dataloader.dataset, self.dataloader.batch_sampler
        first, begin = self.entered, 0
        if isinstance(data, SeededDataset):
            data.epoch.fill_(self._epoch)
            # A cache of earlier images is what the batches before would have made of it: they are loaded again.
            if isinstance(batches, EnteredBatchSampler) and not data.caches():
                batches.start = begin = first
        for index, batch in enumerate(self.dataloader, start=begin):
            if index >= first:
                seed_step(self.runner.seed, self._epoch, index, get_rank())
                self.run_iter(index, batch)
        self.entered = 0
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
