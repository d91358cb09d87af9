"""Runs of torchvision's detectors: files, resuming to the bit, learning, and what their recipes can't say."""

from __future__ import annotations

import csv
import json
import os
import signal

import pytest
import torch

from sapool.errors import RecipeError
from sapool.recipes.reading import read_recipe
from sapool.runs.progress import Progress
from sapool.study.compare import PRECISION, compare
from sapool.tasks import fit
from tests.commands import sapoolc


class Impatient(Progress):
    """Presses Ctrl-C after the first epoch."""

    def epoch(self, number, total, metrics, pace=None):
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)


NAME = "retinanet-torchvision-digits"


def test_a_runs_folder(torchvision_run):
    names = {path.name for path in torchvision_run.iterdir()}
    assert {"recipe.toml", "summary.json", "best.ckpt", "last.ckpt", "metrics.csv", "curves.png", "logs"} <= names
    with (torchvision_run / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    columns = set(rows[0])
    assert {"train_loss", "val_bbox_mAP", "val_bbox_mAP_50"} <= columns
    assert any(name.startswith("uniformity_stage") for name in columns)
    summary = json.loads((torchvision_run / "summary.json").read_text())
    assert summary["detector"] == "torchvision retinanet"
    assert summary["best_epoch"] in (1, 2)


def test_it_is_compared(torchvision_run, tmp_path):
    (run,) = compare([torchvision_run]).runs
    assert (run.score, run.image_size, run.epochs) == (PRECISION, 64, 2)
    assert run.parameters > 0
    out, _ = sapoolc("compare", torchvision_run, "-o", tmp_path / "c.png")
    assert "without neck and heads" in out.replace("\n", " ")


def test_boxes_are_drawn(torchvision_run, images, tmp_path):
    out, _ = sapoolc("predict", torchvision_run, images[0], "--threshold", "0", "-o", tmp_path)
    assert (tmp_path / "one.png").is_file()
    assert "drawn in" in out


class Listener(Progress):
    def __init__(self):
        self.measured = []

    def epoch(self, number, total, metrics, pace=None):
        if any("mAP" in name for name in metrics):
            self.measured.append(number)


@pytest.mark.slow
def test_epochs_that_are_not_measured_tell_no_figures(torchvision_settings, tmp_path):
    settings = [*torchvision_settings, "train.epochs=4", "train.validate_every=2"]
    listener = Listener()
    fit(read_recipe(NAME, settings), tmp_path / "run", progress=listener)
    assert listener.measured == [2, 4]


@pytest.mark.slow
def test_resumed_it_is_the_same_to_the_bit(torchvision_settings, tmp_path):
    recipe = read_recipe(NAME, [*torchvision_settings, "data.augment=flip", "train.epochs=3"])
    fit(recipe, tmp_path / "whole")
    stopped = fit(recipe, tmp_path / "parts", progress=Impatient())
    assert stopped.stopped == signal.SIGINT
    assert stopped.checkpoint == tmp_path / "parts" / "last.ckpt"
    assert "best_epoch" in fit(recipe, tmp_path / "parts", resume=True).summary
    whole, parts = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "parts"))
    assert whole["global_step"] == parts["global_step"] == 6
    assert all(torch.equal(value, parts["state_dict"][key]) for key, value in whole["state_dict"].items())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("detector.base=yolo", "torchvision has faster_rcnn, retinanet, fcos, ssdlite, not 'yolo'"),
        ("detector.head_channels=[3]", "head_channels"),
        ("detector.neck_channels=[3, 4]", "one number"),
        ("train.sync_batchnorm=true", "one process"),
        ("detector.engine=detectron", "detectron"),
    ],
)
def test_recipes_that_cannot_be(override, said):
    with pytest.raises(RecipeError, match=said):
        read_recipe(NAME, [override])


def test_ssdlite_needs_two_images_in_a_batch():
    with pytest.raises(RecipeError, match="needs two images"):
        read_recipe(NAME, ["detector.base=ssdlite", "train.batch_size=1"])


def test_what_has_no_base_says_what_is_missing(tmp_path):
    recipe = tmp_path / "bare.toml"
    text = 'architecture = "resnet18-lip-2222"\n[detector]\nengine = "torchvision"\nbase = "fcos"\n'
    recipe.write_text(text + '[data]\nname = "digits-detection"\n')
    with pytest.raises(RecipeError, match=r"data\.image_size: a detector of torchvision's has no base"):
        read_recipe(str(recipe))


def test_there_is_no_config_of_mmdet(tmp_path):
    _, err = sapoolc("compile", NAME, "-o", tmp_path / "config.py", code=2)
    assert "torchvision's" in err
    _, err = sapoolc("train", NAME, "--dry-run", "-o", tmp_path / "config.py", code=2)
    assert "config" in err
