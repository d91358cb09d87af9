"""mmengine's runner, which is heard by its hooks alone: what it says itself goes to its own log."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from sapool.detect.binding.config import STUMBLES
from sapool.detect.training.state import KEY
from sapool.errors import InputError, WeightsError, WorkError, named
from sapool.runs.failures import loss_is_no_number
from sapool.runs.progress import EpochTable, Pace, Progress, Stopwatch

_METRIC = "coco/bbox_"
_SECONDS = "sapool_seconds"  # apart from what has to be the same in every run of a recipe
_COLUMNS = ("val_mAP", "val_mAP_50", "val_mAP_75")

# Never closed: mmengine's loggers keep the stream that was standard output when they were made.
_NOWHERE = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


class EpochHook(Hook):  # type: ignore[misc]
    """Tells each batch, each epoch's loss and each measurement; ends a run whose loss is no number.

    Args:
        progress: is told.
        folder: the run's, which keeps the table of epochs; None writes none.
    """

    priority = "LOW"

    def __init__(self, progress: Progress, folder: Path | None = None) -> None:
        self.progress, self.table = progress, None if folder is None else EpochTable(folder)
        self.watch = Stopwatch()
        self.total, self.steps = 0.0, 0
        self._row: tuple[int, dict[str, float | int | None]] = (0, {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint.setdefault(KEY, {})["losses"] = (self.total, self.steps)
        checkpoint[_SECONDS] = self.watch.total

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self.total, self.steps = checkpoint.get(KEY, {}).get("losses", (0.0, 0))
        self.watch = Stopwatch(float(checkpoint.get(_SECONDS, 0.0)))

    def before_train_epoch(self, runner: Runner) -> None:
        if not runner.train_loop.entered:
            self.total, self.steps = 0.0, 0
        self.watch.begin_epoch(runner.iter / len(runner.train_dataloader) - runner.epoch)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        loss = outputs["loss"].item()
        if not torch.isfinite(torch.tensor(loss)):
            rate = runner.optim_wrapper.get_lr()["lr"][0]
            raise loss_is_no_number(loss, runner.epoch + 1, batch_idx + 1, rate)
        self.total, self.steps = self.total + loss, self.steps + 1
        self.watch.count(len(data_batch["inputs"]) * runner.world_size)
        self._row[1]["lr"] = runner.optim_wrapper.get_lr()["lr"][0]
        figures = {"loss": loss, "images/s": self.watch.images_per_second}
        what = f"epoch {runner.epoch + 1}/{runner.max_epochs}"
        self.progress.advanced(what, batch_idx + 1, len(runner.train_dataloader), figures)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.progress.advanced("validating", batch_idx + 1, len(runner.val_dataloader))

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.progress.advanced("testing", batch_idx + 1, len(runner.test_dataloader))

    def after_train_epoch(self, runner: Runner) -> None:
        number, loss, images = runner.epoch + 1, self.total / self.steps, self.watch.images_per_second
        rate = float(self._row[1].get("lr") or 0)
        seconds, remaining = self.watch.end_epoch(runner.max_epochs - number)
        row = {"step": runner.iter, "lr": rate, "train_loss": loss, **dict.fromkeys(_COLUMNS)}
        self._record(number, {**row, "images_per_second": images, "seconds": seconds})
        self.progress.epoch(number, runner.max_epochs, {"training loss": loss}, Pace(rate, images, remaining))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        names = ("mAP", "mAP_50", "mAP_75")
        found = {name: (metrics or {}).get(_METRIC + name, -1) for name in names}
        number, row = self._row
        if number:  # the epoch's row, whole now
            measured = dict(zip(_COLUMNS, found.values(), strict=True))
            self._record(number, {**row, **measured, "seconds": self.watch.epoch_seconds})
        self.progress.validated(found)

    def _record(self, number: int, row: dict[str, float | int | None]) -> None:
        self._row = number, row
        if self.table is not None:
            self.table.record(number, row)


class _Written(Config):  # type: ignore[misc]
    """A config that doesn't change any more: its text, which every checkpoint holds, is formatted once."""

    @cached_property
    def pretty_text(self) -> str:
        text: str = Config.pretty_text.fget(self)
        return text


class _Runner(Runner):  # type: ignore[misc]
    """mmengine's runner, which says in a sentence what of a checkpoint it can't go on from."""

    def load_or_resume(self) -> None:
        try:
            super().load_or_resume()
        except (InputError, WorkError):
            raise
        except STUMBLES as error:
            raise WeightsError(
                f"{self._load_from} can't be gone on from: {named(error, 300)}; nothing was changed"
            ) from error


@contextmanager
def quiet_mmengine() -> Iterator[None]:
    """Meanwhile what mmengine, mmdet and pycocotools print and warn of goes nowhere; then the log's file is closed."""
    with redirect_stdout(_NOWHERE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mm(engine|cv|det)")
        warnings.filterwarnings("ignore", message=r".*(lr_scheduler\.step\(\)|torch\.meshgrid|pin_memory).*")
        try:
            yield
        finally:
            # The process's next run would go on in it until it has a log of its own.
            logger = MMLogger.get_current_instance()
            for handler in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:
                logger.removeHandler(handler)
                handler.close()


def make_runner(config: Config) -> Runner:
    """mmengine's runner of a config, whose log goes to its file, and errors alone to standard error."""
    config = deepcopy(config)
    # By a name of its own: mmengine keeps one visualizer for each name, and a process's second run would write its
    # curves into the first one's folder.
    config.get("visualizer", {}).pop("name", None)
    runner = _Runner.from_cfg(config)
    object.__setattr__(runner.cfg, "__class__", _Written)  # a plain one would set an entry of the config
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setStream(sys.stderr)
            handler.setLevel(logging.ERROR)
    return runner
