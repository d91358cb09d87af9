"""What training does beside training: Lightning callbacks that seed, save and report."""

from __future__ import annotations

import errno
import random
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor, nn

from sapool.poolings.weights import recording, uniformity
from sapool.recipes.network import NetworkRecipe
from sapool.runs.failures import unwritable
from sapool.runs.process.signals import Heeding
from sapool.training.checkpoints import LAST, mark
from sapool.training.history import UNIFORMITY


class SeedPerStep(Callback):
    """Seeds python, numpy and torch before each batch from (seed, epoch, batch, process).

    So what dropout, MixUp or a pooling's noise draws depends on where training is, not on what was drawn before, and a
    run that is resumed draws the same.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        sequence = np.random.SeedSequence((self.seed, trainer.current_epoch, batch_idx, trainer.global_rank, 1))
        number = int(sequence.generate_state(1)[0])
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)


class CheckpointCallback(Checkpoint):
    """Keeps `last.ckpt`: after every epoch, every so many steps, and when the run is told to stop.

    The first signal lets the step finish, saves and stops. In validation it lets that finish too, for the epoch's
    average and its best model belong to what is saved; whoever can't wait sends another, which stops at once.

    Args:
        folder: the run's.
        recipe: what is trained.
        classes: names, by label.
        heeding: what signals have told.
        accumulate: batches whose gradients make one step.
        every: steps between checkpoints inside an epoch, or None.

    Attributes:
        stopped: by which signal training was ended, or None.
    """

    def __init__(
        self,
        folder: Path,
        recipe: NetworkRecipe,
        classes: tuple[str, ...],
        heeding: Heeding,
        *,
        accumulate: int,
        every: int | None,
    ) -> None:
        super().__init__()
        self.path, self.recipe, self.classes, self.heeding = folder / LAST, recipe, classes, heeding
        self.accumulate, self.every = accumulate, every
        self.stopped: signal.Signals | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.heeding.arm()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.heeding.disarm()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        # Between accumulated batches there are gradients that no checkpoint holds, and the epoch's last batch is
        # followed by a checkpoint anyway.
        if done % self.accumulate or done >= trainer.num_training_batches:
            return
        stop = self._stop(trainer)
        if stop or (self.every and trainer.global_step % self.every == 0):
            self._save(trainer)
        if stop:
            self._end()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)
        if self._stop(trainer):
            self._end()

    def _stop(self, trainer: L.Trainer) -> bool:
        # One process's signal stops all, at the same step.
        return bool(trainer.strategy.reduce_boolean_decision(self.heeding.wanted is not None, all=False))

    def _end(self) -> None:
        self.stopped = self.heeding.wanted or signal.SIGINT
        raise KeyboardInterrupt

    def _save(self, trainer: L.Trainer) -> None:
        # Metrics first: a resumed run doesn't log again what came before the checkpoint.
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["sapool"] = mark(self.recipe, self.classes, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning keeps absolute paths, and forgets the best score where they differ: a run's folder may have moved.
        for state in checkpoint["callbacks"].values():
            if "best_model_path" in state:
                here = str(self.path.parent.resolve())
                state["best_k_models"] = {f"{here}/{Path(p).name}": s for p, s in state["best_k_models"].items()}
                for name in ("best_model_path", "kth_best_model_path"):
                    state[name] = f"{here}/{Path(state[name]).name}" if state[name] else ""
                state["dirpath"] = here


@contextmanager
def stopping(checkpoints: CheckpointCallback, path: Path) -> Iterator[None]:
    """Ends training quietly where it was told to stop, and in a sentence where the disk is full."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        if checkpoints.stopped is None:
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise unwritable(path / LAST, error) from None
        raise


class UniformityMonitor(Callback):
    """Logs after each epoch how evenly each pool weighs its pixels, on the first batch that is validated.

    Args:
        pools: by the names of their sites.
    """

    def __init__(self, pools: Mapping[str, nn.Module]) -> None:
        self.pools = pools
        self._recording: AbstractContextManager[dict[str, Tensor | None]] | None = None
        self._found: dict[str, Tensor | None] = {}

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 0:
            self._recording = recording(self.pools)
            self._found = self._recording.__enter__()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        if self._recording is None:
            return
        self._recording.__exit__(None, None, None)
        self._recording = None
        for name, weight in self._found.items():
            if weight is not None:
                value = uniformity(weight)
                pl_module.log(
                    f"{UNIFORMITY}{name}", value, on_epoch=True, batch_size=1, sync_dist=trainer.world_size > 1
                )
