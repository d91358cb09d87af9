"""A detector's run that was stopped or killed anywhere, and went on, ends in the bits of one that nothing disturbed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner

from sapool.detect.checkpoints import STOPPED, last_of
from sapool.detect.training.hooks import StopHook
from sapool.detect.training.state import KEY
from tests.classify.support import differences
from tests.detect.support import command, made, overrides

pytestmark = pytest.mark.slow

EPOCHS = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("data") / "digits", train=12, val=2)


def train(folder: Path, data: Path, *more: str, options: tuple[str, ...] = (), code: int = 0) -> str:
    settings = [*overrides(data), f"train.epochs={EPOCHS}", "data.augment=base", "train.log_every=1", *more]
    return "".join(command("train", "ssd-digits", *settings, "--run-dir", folder, *options, code=code))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    (folder.parent / "said").write_text(train(folder, data))
    return folder


def scalars(hub: dict[str, Any]) -> dict[str, tuple[np.ndarray, ...]]:
    return {name: buffer.data for name, buffer in hub["log_scalars"].items() if "time" not in name}


def same(one: Path, other: Path) -> None:
    """Weights, optimizer, schedule, where training is, and every figure that was logged."""
    assert {p.name for p in one.glob("*.pth")} == {p.name for p in other.glob("*.pth")}
    for name in sorted(path.name for path in one.glob("*.pth")):
        a, b = (torch.load(folder / name, weights_only=True) for folder in (one, other))
        for part in ("state_dict", "optimizer", "param_schedulers", KEY):
            assert differences(a.get(part), b.get(part), part) == [], name
        for part in ("epoch", "iter", "seed"):
            assert a["meta"][part] == b["meta"][part]
        logged, again = scalars(a["message_hub"]), scalars(b["message_hub"])
        assert logged.keys() == again.keys()
        for figure in logged:
            assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(logged[figure], again[figure], strict=True))


class Killed(BaseException):
    """What ends a process that was killed, here: nobody catches it, and nothing is written after it."""


def kill() -> None:
    raise Killed


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def plant(monkeypatch: pytest.MonkeyPatch, hook: str, epoch: int, batch: int, fault: Callable[[], None]) -> None:
    before = getattr(StopHook, hook)

    def faulty(self: StopHook, runner: Runner, *arguments: Any, **named: Any) -> None:
        index = named.get("batch_idx", 0)
        if (runner.epoch, index, get_rank()) == (epoch, batch, 0):
            fault()
        before(self, runner, *arguments, **named)

    monkeypatch.setattr(StopHook, hook, faulty)


# (where: hook, epochs done, batch), what happens there, workers, and the checkpoint that is gone on from.
FAULTS: tuple[tuple[str, int, int, Callable[[], None], int, str], ...] = (
    ("after_train_iter", 0, 1, terminate, 2, STOPPED),
    ("after_train_epoch", 0, 0, terminate, 0, "epoch_1.pth"),
    ("after_val_iter", 1, 0, kill, 0, "epoch_1.pth"),
    ("after_train_iter", 1, 1, kill, 0, "epoch_1.pth"),
    ("after_val_iter", 2, 0, terminate, 0, "epoch_2.pth"),
)


def test_stopped_and_killed_everywhere(whole, data, tmp_path, monkeypatch):
    """One run with a fault in each start; it is moved before the last one."""
    folder, said, options = tmp_path / "run", "", ()
    for hook, epoch, batch, fault, workers, saved in FAULTS:
        with monkeypatch.context() as patch:
            plant(patch, hook, epoch, batch, fault)
            if fault is kill:
                with pytest.raises(Killed):
                    train(folder, data, f"data.workers={workers}", options=options)
            else:
                said += (now := train(folder, data, f"data.workers={workers}", options=options, code=143))
                going_on = f"go on with: sapoolc train --resume --run-dir {folder}"
                assert f"stopped, saved in {folder / saved}; {going_on}" in now
        assert last_of(folder) == folder / saved
        options = ("--resume",)
    moved = folder.rename(tmp_path / "moved")
    train(moved, data, options=options)
    same(whole, moved)
    # An epoch that was stopped in is told once, with the loss of all of it.
    first = next(line for line in (whole.parent / "said").read_text().splitlines() if "training loss" in line)
    told = [line for line in said.splitlines() if line.startswith("epoch 1/")]
    assert [_computed(line) for line in told] == [_computed(first)]


def _computed(line: str) -> str:
    """What training computed in an epoch, without how fast the machine did it."""
    return line.partition("  lr ")[0]


def test_gradients_that_wait_are_kept(data, tmp_path, monkeypatch):
    """With steps of two batches, stopped between them, and an epoch's odd batch waiting for the next epoch."""
    more = ("train.accumulate=2", "train.validate_every=2")
    train(tmp_path / "whole", data, *more)
    with monkeypatch.context() as patch:
        plant(patch, "after_train_iter", 0, 0, terminate)
        train(tmp_path / "run", data, *more, code=143)
    with monkeypatch.context() as patch:
        plant(patch, "after_train_iter", 1, 1, kill)
        with pytest.raises(Killed):
            train(tmp_path / "run", data, *more, options=("--resume",))
    train(tmp_path / "run", data, *more, options=("--resume",))
    same(tmp_path / "whole", tmp_path / "run")


def test_a_cut_off_checkpoint_is_refused_and_the_one_before_helps(whole, data, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    last = last_of(folder)
    assert last is not None
    last.write_bytes(last.read_bytes()[:1000])
    said = train(folder, data, options=("--resume",), code=2)
    assert f"{last}" in said
    assert "Take it away to go on from epoch_1.pth" in said
    last.unlink()
    assert last_of(folder) == folder / "epoch_1.pth"
