"""Many processes on the CPU (gloo): two with synchronised batch norm compute what one does with twice the batch."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from sapool.training import history
from sapool.training.sync_norm import CPUSync, CPUSyncBatchNorm
from tests.classify.support import checkpoint, differences
from tests.commands import ENVIRONMENT, ROOT

# No noise and no dropout: those are drawn for each process. Every process has its own images, augmented.
RUN = [
    "digits", "architecture=resnet18-nlp_headfix2_nowin-1211", "data.image_size=16", "data.randaugment=1",
    "train.epochs=2", "train.steps_per_epoch=4", "train.log_every=1", "train.accelerator=cpu",
    "optimizer.name=sgd", "optimizer.lr=0.0003", "schedule.name=constant",
]  # fmt: skip
ONE = ["train.batch_size=32"]
TWO = ["train.batch_size=16", "train.devices=2", "train.sync_batchnorm=true"]


def sapoolc(
    *arguments: object, fault: str = "none", code: int = 0, launcher: tuple[str, ...] = (), cwd: Path | None = None
) -> str:
    """Standard output of a command line; Lightning starts the second process by repeating it."""
    command = [sys.executable, *launcher, "-m", "tests.classify.faults", fault, *map(str, arguments)]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def curve(folder: Path, name: str) -> list[float]:
    return [row[name] for row in history.rows(folder) if name in row]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "two"
    sapoolc("train", *RUN, *TWO, "--run-dir", folder)
    return folder


def equal(two: Path, one: Path, tolerance: float) -> None:
    for name, count in (("train_loss_step", 8), ("train_loss", 2), ("val_loss", 2), ("val_accuracy", 2)):
        ours, theirs = curve(two, name), curve(one, name)
        assert len(ours) == len(theirs) == count
        # Averages over an epoch are kept in float32, whatever the network computes in.
        assert ours == pytest.approx(theirs, abs=max(tolerance, 1e-6 if name != "train_loss_step" else 0)), name
    assert max(curve(one, "train_loss_step")) - min(curve(one, "train_loss_step")) > 0.02  # it isn't a flat line
    ours, theirs = (checkpoint(folder / "last.ckpt")["state_dict"] for folder in (two, one))
    for key, value in theirs.items():
        torch.testing.assert_close(
            ours[key], value, atol=tolerance, rtol=tolerance, msg=lambda m, key=key: f"{key}: {m}"
        )


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path):
    """In double precision, where rounding can't hide what differs."""
    for name, settings in (("one", ONE), ("two", TWO)):
        small = "architecture=shufflenet_v2_x0_5-nlp_headfix2_nowin-121"
        sapoolc("train", *RUN, *settings, small, "train.precision=64-true", "--run-dir", tmp_path / name)
    equal(tmp_path / "two", tmp_path / "one", 1e-9)


@pytest.mark.exhaustive
def test_in_single_precision_curves_part_by_rounding_alone(two, tmp_path):
    """Training amplifies rounding by half an order of magnitude a step here, so four steps are compared."""
    sapoolc("train", *RUN, *ONE, "train.epochs=1", "--run-dir", tmp_path / "one")
    theirs = curve(tmp_path / "one", "train_loss_step")
    assert len(theirs) == 4
    assert curve(two, "train_loss_step")[:4] == pytest.approx(theirs, abs=1e-4)


@pytest.mark.slow
def test_two_processes_resume_exactly(two, tmp_path):
    folder = tmp_path / "stopped"
    sapoolc("train", *RUN, *TWO, "--run-dir", folder, fault="interrupt:1:1", code=130)
    assert checkpoint(folder / "last.ckpt")["global_step"] == 6
    sapoolc("train", "--resume", "--run-dir", folder)
    a, b = (checkpoint(f / "last.ckpt") for f in (folder, two))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert differences(a[part], b[part], part) == []


@pytest.mark.slow
def test_torchrun_needs_and_uses_one_folder(two, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29541")
    said = sapoolc("train", *RUN, *TWO, "--run-dir", tmp_path / "run", launcher=launcher)
    assert said.count("test accuracy") == 1
    a, b = (checkpoint(f / "last.ckpt")["state_dict"] for f in (tmp_path / "run", two))
    assert differences(a, b) == []


def _norms(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    x = torch.randn(6, 3, 5, 4, dtype=torch.float64) * 2 + 1
    target = torch.randn(6, 3, 5, 4, dtype=torch.float64)
    plain = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        plain.weight.uniform_()
        plain.bias.uniform_()
    synced = CPUSync().apply(nn.Sequential(copy.deepcopy(plain)))
    assert type(synced[0]) is CPUSyncBatchNorm
    # Shares of different sizes: 2 and 4 images.
    share = slice(0, 2) if rank == 0 else slice(2, 6)
    whole, part = x.clone().requires_grad_(), x[share].clone().requires_grad_()
    (plain(whole) * target).sum().backward()
    (synced(part) * target[share]).sum().backward()
    torch.testing.assert_close(part.grad, whole.grad[share])
    for name in ("weight", "bias"):
        gradient = getattr(synced[0], name).grad
        distributed.all_reduce(gradient)
        torch.testing.assert_close(gradient, getattr(plain, name).grad)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(synced[0], name), getattr(plain, name))
    torch.testing.assert_close(synced.eval()(x), plain.eval()(x))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_synchronised_norm_is_the_norm_of_the_whole_batch(tmp_path, monkeypatch):
    # A spawned process imports this module by its name, and looks for it where its parent does.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    multiprocessing.spawn(_norms, (str(tmp_path),), nprocs=2)


def test_without_processes_it_is_plain(tmp_path):
    x = torch.randn(4, 3, 2, 2)
    torch.testing.assert_close(CPUSync().apply(nn.BatchNorm2d(3))(x), nn.BatchNorm2d(3)(x))


@pytest.mark.slow
def test_processes_that_lightning_starts_find_the_folder_that_the_first_one_chose(tmp_path):
    sapoolc("train", *RUN, *TWO, "train.epochs=1", cwd=tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "summary.json").is_file()
