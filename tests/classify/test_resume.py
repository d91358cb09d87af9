"""Runs that are killed, interrupted or repeated end in the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from sapool.digests import read_json
from sapool.runs.progress import EpochTable
from sapool.training import history
from tests.classify.support import checkpoint, differences
from tests.classify.support import train_apart as train


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(folder)
    return folder


def same(a: Path, b: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        one, other = checkpoint(a / name), checkpoint(b / name)
        # Everything that training computes: weights, their average and its counter, optimizer, schedule.
        for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
            assert one[part], part
            assert differences(one[part], other[part], part) == []
        assert (one["epoch"], one["global_step"]) == (other["epoch"], other["global_step"])
    (one, other) = (read_json(f / "summary.json") for f in (a, b))
    one.pop("training_seconds"), other.pop("training_seconds")
    assert one == other
    assert epochs(a) == epochs(b)


def epochs(folder: Path) -> list[dict[str, str]]:
    """The rows of `metrics.csv`, without what the machine did to them."""
    timed = ("images_per_second", "seconds")
    return [{k: v for k, v in row.items() if k not in timed} for row in EpochTable(folder).rows()]


def metrics(folder: Path) -> list[history.Row]:
    return history.rows(folder)


@pytest.mark.slow
def test_two_runs_of_one_seed_are_bit_identical_with_any_number_of_workers(whole, tmp_path):
    train(tmp_path / "again", "data.workers=2")
    same(whole, tmp_path / "again")
    assert metrics(whole) == metrics(tmp_path / "again")


@pytest.mark.slow
def test_another_seed_is_another_run(whole, tmp_path):
    train(tmp_path / "other", "train.seed=1")
    assert differences(
        checkpoint(whole / "last.ckpt")["state_dict"], checkpoint(tmp_path / "other" / "last.ckpt")["state_dict"]
    )


# What happens where (epoch, batch), the code it ends with, workers, and the steps in the checkpoint that it leaves.
FAULTS: tuple[tuple[str, int, int, int | None], ...] = (
    ("kill:0:2", -9, 0, None),
    ("interrupt:0:5", 130, 0, 6),
    ("kill:1:3", -9, 2, 6),
    ("terminate:1:2", 143, 2, 9),
    ("interrupt:2:1", 130, 0, 14),
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_told_to_stop_everywhere(whole, tmp_path):
    """One run with a fault in each start; it is moved before the last one."""
    folder, options = tmp_path / "run", ()
    for fault, code, workers, steps in FAULTS:
        said = train(folder, f"data.workers={workers}", fault=fault, code=code, options=options)
        if code > 0:
            assert f"go on with: sapoolc train --resume --run-dir {folder}" in said
            assert (folder / "metrics.csv").exists()
        last = folder / "last.ckpt"
        assert (checkpoint(last)["global_step"] if last.exists() else None) == steps, fault
        options = ("--resume",)
    moved = folder.rename(tmp_path / "moved")
    train(moved, options=options)
    same(whole, moved)
    # Lightning logs a batch, and an epoch, after the callbacks that may stop it: those rows are lost.
    steps_lost = {step - 1 for fault, code, _, step in FAULTS if code > 0 and step}
    expected = [row for row in metrics(whole) if row["step"] not in steps_lost]
    assert [row for row in metrics(moved) if row["step"] not in steps_lost] == expected


@pytest.mark.slow
def test_killed_between_checkpoints_inside_an_epoch(whole, tmp_path):
    folder = tmp_path / "killed"
    train(folder, "train.checkpoint_every=2", fault="kill:1:5", code=-9)
    assert checkpoint(folder / "last.ckpt")["global_step"] == 10
    train(folder, "train.checkpoint_every=2", options=("--resume",))
    same(whole, folder)


def test_resuming_a_finished_run_changes_nothing(whole):
    before = checkpoint(whole / "last.ckpt")
    train(whole, options=("--resume",))
    assert differences(before, checkpoint(whole / "last.ckpt")) == []
