"""Hooks that keep a detector's checkpoints, and that end its training when it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from sapool.detect.checkpoints import POINTER, STOPPED, best_name, bests, epochs_in
from sapool.detect.files import BACKEND
from sapool.detect.training.state import KEY, Memory, give_gradients, gradients_of, memory_of, recall
from sapool.errors import WeightsError
from sapool.runs.process.signals import Heeding, Stopped
from sapool.weights.atomic import write_text

_BEST_SCORE = "best_score"


@HOOKS.register_module()
class KeepCheckpoints(Hook):  # type: ignore[misc]
    """Keeps checkpoints to go on from, and the best epoch's.

    mmengine's own hook removes an old file before it writes the new one, and forgets what is told after an epoch's
    checkpoint: its validation. Here a new file is whole before an old one goes, an epoch's checkpoint is written again
    when it has been validated, and one that hasn't says so.

    Args:
        interval: epochs between checkpoints. Before a validation there is one besides.
        keep: how many of them.
        best: the figure that chooses the best epoch; greater is better.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int = 1, keep: int = 2, best: str = "coco/bbox_mAP") -> None:
        self.interval, self.keep, self.best = interval, keep, best
        self.batch = 0
        self.validation_due = False
        self.before: Memory = {}

    def before_run(self, runner: Runner) -> None:
        self.before = memory_of(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        now = memory_of(runner)
        checkpoint.setdefault(KEY, {}).update(
            batch=self.batch,
            validation_due=self.validation_due,
            memory={
                path: value for path, value in now.items() if path not in self.before or self.before[path] != value
            },
            gradients=gradients_of(runner),
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if not runner._resume:  # weights alone are wanted
            return
        kept = checkpoint.get(KEY, {})
        entered, batches = kept.get("batch", 0), len(runner.train_dataloader)
        if entered >= batches and entered:
            raise WeightsError(f"the checkpoint is of batch {entered:,} of an epoch, and the run's have {batches:,}")
        runner.train_loop.entered = entered
        runner.train_loop.validation_due = kept.get("validation_due", False)
        recall(runner, kept.get("memory", {}))
        give_gradients(runner, kept.get("gradients", {}))

    def after_train_epoch(self, runner: Runner) -> None:
        epoch, loop = runner.epoch + 1, runner.train_loop
        self.batch, self.validation_due = 0, loop.validates(epoch)
        if self.validation_due or epoch % self.interval == 0 or epoch == loop.max_epochs:
            self._save(runner, f"epoch_{epoch}.pth", epoch, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.batch, self.validation_due = 0, False
        score, hub = (metrics or {}).get(self.best), runner.message_hub
        if score is not None and score > hub.runtime_info.get(_BEST_SCORE, float("-inf")):
            hub.update_info(_BEST_SCORE, score)
            name = best_name(runner.epoch)
            self._write(runner, name, runner.epoch, runner.iter, optimizer=False)
            if is_main_process():
                for old in bests(Path(runner.work_dir)):
                    if old.name != name:
                        old.unlink(missing_ok=True)
        self._save(runner, f"epoch_{runner.epoch}.pth", runner.epoch, runner.iter)

    def stop(self, runner: Runner, epoch: int, batch: int, steps: int) -> None:
        """Keeps where training is, of which no epoch's checkpoint tells.

        Args:
            runner: that trains.
            epoch: epochs that are done.
            batch: batches that are done of the next one.
            steps: that are done.
        """
        self.batch = batch
        self._save(runner, STOPPED, epoch, steps)

    def _save(self, runner: Runner, name: str, epoch: int, steps: int) -> None:
        self._write(runner, name, epoch, steps)
        if not is_main_process():
            return
        folder = Path(runner.work_dir)
        write_text(folder / POINTER, str(folder / name))
        if name != STOPPED:
            (folder / STOPPED).unlink(missing_ok=True)
        for old in epochs_in(folder)[: -self.keep]:
            old.unlink(missing_ok=True)

    @staticmethod
    def _write(runner: Runner, name: str, epoch: int, steps: int, *, optimizer: bool = True) -> None:
        runner.save_checkpoint(
            runner.work_dir,
            name,
            meta={"epoch": epoch, "iter": steps},
            save_optimizer=optimizer,
            save_param_scheduler=optimizer,
            backend_args={"backend": BACKEND},
        )


class StopHook(Hook):  # type: ignore[misc]
    """Ends training where it has been saved, when a signal has told it to.

    Raises (from its calls): Stopped.
    """

    priority = "LOWEST"

    def __init__(self, heeding: Heeding) -> None:
        self.heeding = heeding

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.heeding.arm()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        # Behind the last batch the epoch's own checkpoint follows.
        if batch_idx + 1 < len(runner.train_dataloader) and self._told():
            self._keeper(runner).stop(runner, runner.epoch, batch_idx + 1, runner.iter + 1)
            raise Stopped

    def after_train_epoch(self, runner: Runner) -> None:
        if self._told():
            epoch = runner.epoch + 1
            if not (Path(runner.work_dir) / f"epoch_{epoch}.pth").exists():
                self._keeper(runner).stop(runner, epoch, 0, runner.iter)
            raise Stopped

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._told():  # the epoch is saved, with its validation due
            raise Stopped

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self._told():
            raise Stopped

    def _told(self) -> bool:
        if get_world_size() == 1:
            return self.heeding.wanted is not None
        flag = torch.tensor([float(self.heeding.wanted is not None)])
        all_reduce(flag, op="max")  # one process's signal stops all, at the same step
        return bool(flag.item())

    @staticmethod
    def _keeper(runner: Runner) -> KeepCheckpoints:
        return next(hook for hook in runner.hooks if isinstance(hook, KeepCheckpoints))
