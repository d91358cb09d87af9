"""Real runs on a few small images: learning, killing, resuming, faults."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sapool.detect.checkpoints import last_of, read_run_checkpoint
from sapool.digests import read_json
from sapool.errors import WeightsError
from tests.detect.support import CHEAP, ENVIRONMENT, ROOT, command, made, overrides

# Whole trainings: every run of the suite has a short one in `tests/runs`.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("data") / "digits")


def train(folder: Path, data: Path, *more: str, recipe: str = "ssd-digits", code: int = 0) -> str:
    return "".join(command("train", recipe, *overrides(data), *more, "--run-dir", folder, code=code))


def losses(said: str) -> list[float]:
    return [float(found) for found in re.findall(r"training loss (\S+)", said)]


@pytest.mark.parametrize(
    ("recipe", "epochs", "more"),
    [
        ("ssd-digits", 14, ()),
        pytest.param("faster_rcnn", 4, ("optimizer.name=adamw", "optimizer.lr=1e-3")),
        pytest.param("yolov3-mmdet", 6, ("optimizer.name=adamw", "optimizer.lr=1e-3")),
    ],
)
def test_loss_falls_by_half_without_a_number_set_by_hand(recipe, epochs, more, data, tmp_path):
    settings = [f"train.epochs={epochs}", f"train.validate_every={epochs}", "data.image_size=[128, 128]"]
    settings += ["data.classes=all", "data.augment=none", "schedule.name=constant", "data.workers=0"]
    if recipe != "ssd-digits":
        settings += ["dialect=torchvision"]
    else:
        settings += ["detector.out_indices=[1, 2]"]
    found = losses(train(tmp_path / "run", data, *settings, *more, recipe=recipe))
    assert len(found) == epochs
    assert found[-1] < found[0] / 2, found
    summary = read_json(tmp_path / "run" / "summary.json")
    assert (summary["epochs"], summary["classes"]) == (epochs, 10)


@pytest.fixture(scope="module")
def killed(data, tmp_path_factory) -> Path:
    """A run killed with SIGKILL in its third epoch."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    words = ["train", "ssd-digits", *overrides(data), "train.epochs=40", "train.validate_every=40"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sapoolc", *words, "--run-dir", str(folder)], cwd=ROOT, env=ENVIRONMENT
    )
    deadline = time.monotonic() + 120
    while not (folder / "epoch_2.pth").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return folder


def test_ctrl_c_says_how_to_go_on(data, tmp_path):
    folder = tmp_path / "run"
    words = ["train", "ssd-digits", *overrides(data), "train.epochs=40", "train.validate_every=40"]
    # Shells start background jobs with Ctrl-C switched off, and children inherit that.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from sapoolc import main; "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{heeding}import sys; sys.exit(main())", *words, "--run-dir", str(folder)],
        cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "last_checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: sapoolc train --resume --run-dir {folder}" in err
    assert last_of(folder) is not None


@pytest.fixture
def run(killed, tmp_path) -> Path:
    return Path(shutil.copytree(killed, tmp_path / "run"))


def shorter(folder: Path, epochs: int) -> None:
    """Lets the run end soon; nothing else of its recipe changes."""
    recipe = folder / "recipe.toml"
    text = recipe.read_text().partition("\n")[2].replace("epochs = 40", f"epochs = {epochs}")
    recipe.write_text(text.replace("validate_every = 40", f"validate_every = {epochs}"))


def test_killed_and_resumed(run):
    done = int(last_of(run).stem.removeprefix("epoch_"))
    shorter(run, done + 2)
    before = torch.load(run / f"epoch_{done}.pth", weights_only=True)
    out, _ = command("train", "--resume", "--run-dir", run)
    epochs = [line.split()[1] for line in out.splitlines() if "training loss" in line]
    assert epochs == [f"{done + 1}/{done + 2}", f"{done + 2}/{done + 2}"]
    after = torch.load(run / f"epoch_{done + 2}.pth", weights_only=True)
    assert after["meta"]["iter"] == before["meta"]["iter"] // done * (done + 2)
    assert read_json(run / "summary.json")["epochs"] == done + 2
    # It went on from those weights, not from new ones.
    name = "backbone.conv1.weight"
    distance = (after["state_dict"][name] - before["state_dict"][name]).norm()
    assert 0 < distance < before["state_dict"][name].norm() / 2
    assert before["optimizer"]["state"]


def test_resumed_with_mmengines_own_command(run):
    """mmdet's script on the run's config, which knows nothing of sapool's command."""
    done = int(last_of(run).stem.removeprefix("epoch_"))
    script = Path(sys.modules["mmdet"].__file__).parent / ".mim" / "tools" / "train.py"
    words = [run / "config.py", "--work-dir", run, "--resume"]
    words += ["--cfg-options", f"train_cfg.max_epochs={done + 1}", f"train_cfg.val_interval={done + 9}"]
    out, _ = command(script, *words, program=(sys.executable,))
    assert f"resumed epoch: {done}" in out
    assert f"Epoch(train)  [{done + 1}]" in out or (run / f"epoch_{done + 1}.pth").exists()
    read_run_checkpoint(run / f"epoch_{done + 1}.pth", CHEAP)


def refused(folder: Path, *more: str) -> str:
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    out, err = command("train", "--resume", "--run-dir", folder, *more, code=2)
    assert (out, err.count("sapoolc: ")) == ("", 1)
    assert "Traceback" not in err
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    return err


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_checkpoints_that_would_run_code_are_refused(run, tmp_path):
    last, mark = last_of(run), tmp_path / "exploded"
    content = torch.load(last, weights_only=True)
    torch.save({**content, "extra": Bomb(mark)}, last)
    assert "it holds objects that could run code" in refused(run)
    last.write_bytes(pickle.dumps(Bomb(mark)))
    assert str(last) in refused(run)
    # mmengine runs the config in a checkpoint as a program.
    meta = {**content["meta"], "config": f"import os\nos.system('touch {mark}')\n"}
    torch.save({**content, "meta": meta}, last)
    assert "the config in it holds code" in refused(run)
    assert not mark.exists()


# mmengine fills in variables by regular expressions, which the last one turns against it: in what comes of it the
# string ends early. A parser that reads it before sees a string and nothing else.
PROGRAMS = {
    "another file": "_base_ = 'FOLDER/evil.py'\n",
    "an import": "custom_imports = dict(imports=['evil'], allow_failed_imports=False)\n",
    "a variable": r"""x = '{{$NOT_SET:|\\\'+str(__import__("evil"))#}}'""" + "\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", PROGRAMS)
def test_the_config_in_a_checkpoint_is_never_run(run, tmp_path, monkeypatch, what):
    """What looks like plain data, and would yet make mmengine run a file; by our command and by mmdet's script."""
    mark = tmp_path / "exploded"
    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    last = last_of(run)
    content = torch.load(last, weights_only=True)
    meta = {**content["meta"], "config": PROGRAMS[what].replace("FOLDER", str(tmp_path))}
    torch.save({**content, "meta": meta}, last)
    epochs = int(last.stem.removeprefix("epoch_"))
    shorter(run, epochs)
    script = Path(sys.modules["mmdet"].__file__).parent / ".mim" / "tools" / "train.py"
    words = [run / "config.py", "--work-dir", run, "--resume", "--cfg-options", f"train_cfg.max_epochs={epochs}"]
    out, _ = command(script, *words, program=(sys.executable,))
    assert f"resumed epoch: {epochs}" in out
    command("train", "--resume", "--run-dir", run)
    assert not mark.exists()


def test_damaged_and_foreign_checkpoints(run):
    last = last_of(run)
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in refused(run)
    torch.save({"weight": torch.zeros(2)}, last)
    assert "isn't a checkpoint of a detector's run" in refused(run)
    last.write_bytes(whole)
    with pytest.raises(WeightsError, match="isn't of resnet50-skip-1222"):
        read_run_checkpoint(last, "resnet50-skip-1222")


def test_another_recipe_is_refused(run):
    assert "optimizer.lr is 0.001 there and 0.5 here" in refused(run, "optimizer.lr=0.5")


def test_an_empty_pointer_does_not_lose_the_run(run):
    (run / "last_checkpoint").write_text("")
    assert last_of(run) == sorted(run.glob("epoch_*.pth"), key=lambda f: int(f.stem.removeprefix("epoch_")))[-1]
    (run / "last_checkpoint").write_text("/moved/away/epoch_1.pth")
    assert last_of(run).parent == run


def test_a_folder_that_is_not_empty(run, data):
    assert "isn't empty; go on with that run with --resume" in train(run, data, code=2)


def test_loss_that_is_no_number(data, tmp_path):
    said = train(tmp_path / "run", data, "optimizer.lr=1e30", "optimizer.name=sgd", code=1)
    assert "the loss became nan in epoch 1" in said or "the loss became inf in epoch 1" in said
    assert "Lower optimizer.lr" in said


def test_a_run_that_is_not_finished_is_not_compared(run):
    _, err = command("compare", run, code=2)
    assert "isn't finished: there is no summary.json" in err
