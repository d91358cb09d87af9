"""What follows training: figures, boxes, maps; and the doctor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapool.cli import doctor
from sapool.digests import read_json
from sapoolc import main
from tests.detect.support import command, overrides


def test_a_runs_folder(detector_run):
    names = {path.name for path in detector_run.iterdir()}
    ours = {"curves.png", "recipe.toml", "config.py", "summary.json"}
    assert ours | {"last_checkpoint", "epoch_1.pth", "epoch_2.pth"} <= names
    assert len(list(detector_run.glob("best_*.pth"))) == 1


@pytest.mark.slow
def test_a_run_that_has_learned_to_see_something(detection_data, tmp_path):
    """It memorises its images, which are also those validated with."""
    folder = tmp_path / "run"
    same = ["data.val_annotations=annotations/train.json", "data.val_images=train"]
    words = [*overrides(detection_data), *same, "train.epochs=45", "train.validate_every=45", "schedule.name=constant"]
    command("train", "ssd-digits", *words, "--run-dir", folder)
    is_evaluated(folder)
    finds_the_digits_and_draws_them(folder, detection_data, tmp_path)


def is_evaluated(learned: Path) -> None:
    out, _ = command("evaluate", learned)
    assert "AP at IoU 0.50" in out
    content = read_json(learned / "evaluation.json")
    summary = read_json(learned / "summary.json")
    for name in ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75"):
        assert content[name] == pytest.approx(summary[name], abs=2e-3)
    assert content["bbox_mAP_50"] > 0.2
    assert set(content["per_class"]) == set("0123456789")
    seen = [value for value in content["per_class"].values() if value is not None]
    assert np.mean(seen) == pytest.approx(content["bbox_mAP"], abs=2e-3)
    assert json.loads(command("evaluate", learned, "--json")[0]) == content


def finds_the_digits_and_draws_them(learned: Path, detection_data: Path, tmp_path: Path) -> None:
    images = [detection_data / "train" / f"{n:04d}.png" for n in range(6)]
    out, _ = command("predict", learned, *images, "--threshold", "0.2", "--json", "-o", tmp_path / "drawn")
    content = json.loads(out)
    truth = json.loads((detection_data / "annotations/train.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    right = total = 0
    for number, entry in enumerate(content):
        assert entry["image"] == str(images[number])
        scores = [box["score"] for box in entry["boxes"]]
        assert scores == sorted(scores, reverse=True)
        assert all(score >= 0.2 for score in scores)
        for mark in (mark for mark in truth["annotations"] if mark["image_id"] == number):
            x, y, width, height = mark["bbox"]
            total += 1
            right += any(
                box["label"] == names[mark["category_id"]]
                and max(abs(a - b) for a, b in zip(box["corners"], (x, y, x + width, y + height), strict=True)) < 10
                for box in entry["boxes"]
            )
    assert right / total > 0.4
    for image in images:
        drawn = np.asarray(Image.open(tmp_path / "drawn" / image.name))
        before = np.asarray(Image.open(image).resize((512, 512), Image.Resampling.BILINEAR))
        assert drawn.shape[1:] == (512, 3)
        assert drawn.shape[0] > 512  # the legend
        assert np.abs(drawn[:512].astype(int) - before).max() > 100
    out, _ = command("predict", learned, images[0])
    assert f"drawn in {learned / 'predictions'}" in out
    assert out.splitlines()[0].split() == ["image", "class", "score", "left", "top", "right", "bottom"]


def test_heatmaps_show_every_pool_that_the_detector_uses(detector_run, detection_data, tmp_path):
    command("heatmap", detector_run, detection_data / "train/0000.png", "-o", tmp_path / "maps")
    sheet = Image.open(tmp_path / "maps/0000.png")
    # The image and the pools of three stages, in one row.
    assert sheet.width > 3 * sheet.height / 2


@pytest.mark.parametrize("name", ["evaluate", "predict", "heatmap"])
def test_a_run_without_checkpoint(name, detector_run, detection_data, tmp_path):
    (tmp_path / "recipe.toml").write_text((detector_run / "recipe.toml").read_text())
    images = [] if name == "evaluate" else [detection_data / "train/0000.png"]
    assert "has no checkpoint yet" in command(name, tmp_path, *images, code=2)[1]


def test_pictures_that_are_none(detector_run, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no")
    assert "isn't an image" in command("predict", detector_run, tmp_path / "no.png", code=2)[1]
    assert "no such image" in command("heatmap", detector_run, tmp_path / "nowhere.png", code=2)[1]


# The doctor


def test_doctor_finds_this_installation_well(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "detection will run" in out
    assert "mmcv.ops: nms" in out
    assert main(["doctor", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["runs"] is True
    assert content["versions"]["mmdet"] == "3.3.0"


def test_doctor_takes_the_fork_that_goes_on_with_mmdet(monkeypatch):
    """Its mmcv is newer than any that mmdet 3.3 takes."""
    fork = {"onedl-mmcv": "2.3.6", "onedl-mmengine": "0.10.12", "onedl-mmdetection": "3.5.1"}
    upstream = {"mmcv": None, "mmcv-lite": None, "mmengine": None, "mmdet": None}
    found = {name: doctor._version(name) for name in doctor.PACKAGES} | upstream | fork
    assert list(doctor._clashes(found)) == []


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"mmdet": None, "mmengine": None}, "mmengine, mmdet are not installed"),
        ({"mmcv-lite": None}, "mmcv-lite is not installed"),
        ({"mmcv": "2.1.0"}, "mmcv-lite and mmcv are both installed"),
        ({"onedl-mmdetection": "3.5.1"}, "pip uninstall mmdet onedl-mmdetection, then install one of them"),
        ({"mmdet": None, "onedl-mmdetection": None}, "mmdet is not installed"),
        ({"mmcv-lite": "2.2.0"}, "before 2.2.0, not 2.2.0"),
        ({"torchvision": "0.21.0"}, "don't belong together"),
    ],
)
def test_doctor_names_what_clashes(versions, said, monkeypatch, capsys):
    found = {name: doctor._version(name) for name in doctor.PACKAGES} | versions
    monkeypatch.setattr(doctor, "_version", found.__getitem__)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert said in out
    assert "detection won't run" in out
