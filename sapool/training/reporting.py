"""What is said and written of an epoch: Lightning's callback for `metrics.csv` and for whoever listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sapool.runs.progress import EpochTable, Pace, Progress, Stopwatch

# What comes first, of those that are logged under such names.
_ORDER = ("loss", "accuracy", "mAP")


class Reporter(Callback):
    """Tells of each batch and each epoch, and keeps the table of epochs. Epochs are counted from 1.

    Args:
        progress: is told.
        folder: the run's; None writes no table.
    """

    def __init__(self, progress: Progress, folder: Path | None = None) -> None:
        self.progress, self.table = progress, None if folder is None else EpochTable(folder)
        self.watch, self._rate = Stopwatch(), 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.watch.total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.watch = Stopwatch(float(state_dict.get("seconds", 0.0)))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # An epoch that is gone on with doesn't begin, as Lightning sees it.
        done, batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed, trainer.num_training_batches
        self.watch.begin_epoch(done % batches / batches)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.watch.begin_epoch()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.watch.count(_images(batch) * trainer.world_size)
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        figures = {"images/s": self.watch.images_per_second}
        if isinstance(loss, Tensor) and self.progress.bars:  # reading it waits for the device
            figures = {"loss": float(loss) * trainer.accumulate_grad_batches, **figures}
        what = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.progress.advanced(what, batch_idx + 1, int(trainer.num_training_batches), figures)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self.progress.advanced("validating", batch_idx + 1, _total(trainer.num_val_batches))

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self.progress.advanced("testing", batch_idx + 1, _total(trainer.num_test_batches))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = {
            name: float(value)
            for name, value in sorted(trainer.callback_metrics.items(), key=lambda item: _place(item[0]))
            if not name.startswith("lr-") and not name.endswith("_step")
        }
        number, total = trainer.current_epoch + 1, int(trainer.max_epochs or 0)
        seconds, remaining = self.watch.end_epoch(total - number)
        pace = Pace(self._rate, self.watch.images_per_second, remaining)
        if self.table is not None:
            figures = {"step": trainer.global_step, "lr": pace.rate, **metrics}
            self.table.record(number, {**figures, "images_per_second": pace.images, "seconds": seconds})
        shown = {name.replace("_", " "): value for name, value in metrics.items() if name.endswith(_ORDER)}
        self.progress.epoch(number, total, shown, pace)


def _place(name: str) -> tuple[bool, int, str]:
    """Training first, the loss first; what is neither a loss nor an accuracy last."""
    part, _, what = name.rpartition("_")
    return part != "train", _ORDER.index(what) if what in _ORDER else len(_ORDER), name


def _total(batches: Any) -> int:
    return int(sum(batches)) if isinstance(batches, list) else int(batches)


def _images(batch: Any) -> int:
    """How many images a batch has: of (images, labels), or a list of images."""
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    return len(first) if hasattr(first, "__len__") else 0
