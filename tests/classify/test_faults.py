"""What goes wrong ends in a sentence and a code, and loses nothing that was saved."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from sapool.cli.main import main
from sapool.errors import RecipeError, WeightsError, WorkError
from sapool.recipes.reading import read_recipe
from sapool.runs.folder import make
from sapool.training.checkpoint_io import WholeFileCheckpointIO
from sapool.training.checkpoints import read_run_checkpoint
from tests.classify.support import checkpoint, differences, train, train_apart
from tests.commands import sapoolc

SHORT = ("train.epochs=2", "train.steps_per_epoch=2")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run that was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    train_apart(folder, *SHORT, fault="kill:1:1", code=-9)
    return folder


@pytest.fixture
def run(stopped, tmp_path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def refused(folder: Path, *overrides: str) -> str:
    """What resuming says; nothing in the folder may change."""
    before = snapshot(folder)
    said = train(folder, *SHORT, *overrides, code=2, options=("--resume",))
    assert snapshot(folder) == before
    return said


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_pickle_bomb_is_refused(run, tmp_path):
    mark = tmp_path / "exploded"
    torch.save({"state_dict": {}, "sapool": Bomb(mark)}, run / "last.ckpt")
    said = refused(run)
    assert "it holds objects that could run code" in said
    assert not mark.exists()
    # The same through Lightning's own door, whatever it asks for.
    with pytest.raises(WeightsError, match="could run code"):
        WholeFileCheckpointIO().load_checkpoint(run / "last.ckpt", weights_only=False)
    (run / "last.ckpt").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(WeightsError):
        WholeFileCheckpointIO().load_checkpoint(run / "last.ckpt", weights_only=False)
    assert not mark.exists()


def test_cut_off_checkpoint(run):
    content = (run / "last.ckpt").read_bytes()
    (run / "last.ckpt").write_bytes(content[: len(content) // 2])
    said = refused(run)
    assert "last.ckpt" in said
    assert "is damaged" in said
    assert "best.ckpt is whole, copy it to last.ckpt" in said
    # Which is what then helps.
    shutil.copy(run / "best.ckpt", run / "last.ckpt")
    train(run, *SHORT, options=("--resume",))


def test_checkpoint_of_another_architecture(run):
    recipe = read_recipe(str(run / "recipe.toml"), ["architecture=resnet18-skip-1222"])
    with pytest.raises(WeightsError, match=r"is of mobilenet-gaussian_pool-1221111 .*the recipe of resnet18-skip-1222"):
        read_run_checkpoint(run / "last.ckpt", recipe)
    content = checkpoint(run / "last.ckpt")
    content["sapool"]["architecture"] = "resnet18-skip-1222"
    torch.save(content, run / "last.ckpt")
    assert "is of resnet18-skip-1222" in refused(run)


def test_file_that_is_no_checkpoint_of_a_run(run):
    torch.save({"weight": torch.zeros(2)}, run / "last.ckpt")
    assert "isn't a checkpoint of a run" in refused(run)


def test_another_recipe_is_refused(run):
    assert "optimizer.lr is 0.001 there and 0.5 here" in refused(run, "optimizer.lr=0.5")


def test_loss_that_is_no_number(run):
    before = checkpoint(run / "last.ckpt")
    said = train_apart(run, *SHORT, fault="nan:1:1", code=1, options=("--resume",))
    assert "the loss became nan in epoch 2, batch 2, at a learning rate of" in said
    assert differences(before, checkpoint(run / "last.ckpt")) == []
    train(run, *SHORT, options=("--resume",))


def test_folder_that_is_not_empty(run):
    before = snapshot(run)
    said = train(run, *SHORT, code=2)
    assert "isn't empty; go on with that run with --resume, or choose another" in said
    assert snapshot(run) == before
    with pytest.raises(RecipeError, match="isn't empty"):
        make(run)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    state = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * max(state.f_bavail * state.f_frsize - leave, 0))
    return ballast


def test_full_disk_in_a_run(run, small_disk):
    folder = Path(shutil.copytree(run, small_disk / "run"))
    before = checkpoint(folder / "last.ckpt")
    ballast = fill(small_disk, 3 << 20)
    said = train(folder, *SHORT, code=1, options=("--resume",))
    assert "no space left on the disk" in said
    assert "What was saved before is kept" in said
    assert differences(before, checkpoint(folder / "last.ckpt")) == []
    checkpoint(folder / "best.ckpt")
    assert list(folder.glob(".*")) == []
    ballast.unlink()
    train(folder, *SHORT, options=("--resume",))
    assert (folder / "summary.json").exists()


def test_full_disk_leaves_the_previous_checkpoint(small_disk):
    path = small_disk / "last.ckpt"
    WholeFileCheckpointIO().save_checkpoint({"x": torch.zeros(1000)}, path)
    fill(small_disk, 1 << 20)
    with pytest.raises(WorkError, match=r"last\.ckpt.*no space left on the disk"):
        WholeFileCheckpointIO().save_checkpoint({"x": torch.zeros(1_000_000)}, path)
    assert torch.equal(checkpoint(path)["x"], torch.zeros(1000))
    assert sorted(p.name for p in small_disk.iterdir()) == ["ballast", "last.ckpt"]


def test_half_written_files_of_a_killed_process_are_removed(run):
    stale = run / ".last.ckpt.abc.ckpt"
    stale.write_bytes(b"half")
    train(run, *SHORT, options=("--resume",))
    assert not stale.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "which recipe?"),
        (["train", "digits", "--resume"], "name its folder with --run-dir"),
        (["train", "--resume", "--run-dir", "nowhere"], "can't be read"),
        (["train", "mnist10"], "no recipe 'mnist10'"),
        (["evaluate", "nowhere"], "nowhere holds no run"),
        (["train", "folder", "--run-dir", "r"], "the image folder isn't named"),
        (["train", "digits", "train.batch_size=5000", "--run-dir", "r"], "don't fill a batch of 5000"),
    ],
)
def test_wrong_input(arguments, said, tmp_path):
    out, err = sapoolc(*arguments, code=2, cwd=tmp_path)
    assert said in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path):
    _, err = sapoolc("train", "digits", "train.accelerator=gpu", "--run-dir", tmp_path / "run", code=2)
    assert "train.accelerator: this machine has no gpu that torch can use" in err
    assert not (tmp_path / "run").exists()


def test_first_weights_of_somebodys_run_are_not_read(run):
    """A run that has no checkpoint yet begins anew; its own recipe alone gets no other file opened for that."""
    for file in run.glob("*.ckpt"):
        file.unlink()
    recipe = run / "recipe.toml"
    recipe.write_text('weights = "elsewhere.pt"\n' + recipe.read_text().partition("\n")[2])
    _, err = sapoolc("train", "--resume", "--run-dir", run, code=2)
    assert "would begin with the weights elsewhere.pt, which aren't the run's" in err
    _, err = sapoolc("train", "--resume", "--run-dir", run, "weights=elsewhere.pt", code=2)
    assert "no such file: elsewhere.pt" in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_somebodys_run_tells_no_service_of_itself(run, service):
    """What goes out under the user's name is for the user to say, and a run's own recipe is data."""
    recipe = run / "recipe.toml"
    text = recipe.read_text().partition("\n")[2]
    changed = re.sub(r"(?m)^logger = .*$", f'logger = ["tensorboard", "{service}"]', text)
    assert changed != text
    recipe.write_text(changed)
    _, err = sapoolc("train", "--resume", "--run-dir", run, code=2)
    assert f"tells {service} of itself, by its own recipe: say train.logger=tensorboard,{service} to go on so" in err
    _, err = sapoolc("train", "--resume", "--run-dir", run, "train.logger=none", "train.accelerator=gpu", code=2)
    assert "this machine has no gpu" in err  # which is looked at later


def test_arguments_are_shown_as_names_are(capsys):
    with pytest.raises(SystemExit):
        main(["train", "digits", "--x\x1b[2J"])
    assert r"unrecognized arguments: --x\x1b[2J." in capsys.readouterr().err
