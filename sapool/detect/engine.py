"""mmengine's runner, and what of it is heard: an epoch's figures here, everything in its own log."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sapool.detect.training.state import KEY
from sapool.runs.failures import loss_is_no_number
from sapool.runs.progress import Progress

_METRIC = "coco/bbox_"

# Never closed: mmengine's loggers keep the stream that was standard output when they were made.
_NOWHERE = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


class EpochHook(Hook):  # type: ignore[misc]
    """Tells each epoch's loss and each measurement, and ends a run whose loss is no number."""

    priority = "LOW"

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.total, self.steps = 0.0, 0

    def before_train_epoch(self, runner: Runner) -> None:
        if not runner.train_loop.entered:
            self.total, self.steps = 0.0, 0

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint.setdefault(KEY, {})["losses"] = (self.total, self.steps)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self.total, self.steps = checkpoint.get(KEY, {}).get("losses", (0.0, 0))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        loss = outputs["loss"].item()
        if not torch.isfinite(torch.tensor(loss)):
            rate = runner.optim_wrapper.get_lr()["lr"][0]
            raise loss_is_no_number(loss, runner.epoch + 1, batch_idx + 1, rate)
        self.total, self.steps = self.total + loss, self.steps + 1

    def after_train_epoch(self, runner: Runner) -> None:
        self.progress.epoch(runner.epoch + 1, runner.max_epochs, {"training loss": self.total / self.steps})

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        names = ("mAP", "mAP_50", "mAP_75")
        self.progress.validated({name: (metrics or {}).get(_METRIC + name, -1) for name in names})


class _Written(Config):  # type: ignore[misc]
    """A config that doesn't change any more: its text, which every checkpoint holds, is formatted once."""

    @cached_property
    def pretty_text(self) -> str:
        text: str = Config.pretty_text.fget(self)
        return text


@contextmanager
def quiet_mmengine() -> Iterator[None]:
    """Meanwhile what mmengine, mmdet and pycocotools print and warn of goes nowhere."""
    with redirect_stdout(_NOWHERE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mm(engine|cv|det)")
        warnings.filterwarnings("ignore", message=r".*(lr_scheduler\.step\(\)|torch\.meshgrid|pin_memory).*")
        yield


def make_runner(config: Config) -> Runner:
    """mmengine's runner of a config, whose log goes to its file, and errors alone to standard error."""
    runner = Runner.from_cfg(config)
    object.__setattr__(runner.cfg, "__class__", _Written)  # a plain one would set an entry of the config
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setStream(sys.stderr)
            handler.setLevel(logging.ERROR)
    return runner
