"""Faults of data: a sentence each, exit code 2, and nothing begun."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapool.boxes.coco import check_dataset, digits, find_dataset
from sapool.detect.binding.images import LoadWholeImage
from sapool.errors import InputError
from sapool.recipes.detection import PUBLISHED_CLASSES, DetectionData
from sapool.recipes.reading import read_recipe
from sapool.runs.images import check_image, read_pixels
from tests.detect.support import command, made, overrides


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("data") / "digits", 6, 3)


@pytest.fixture
def root(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def folder(root: Path, **more: object) -> DetectionData:
    return DetectionData.model_validate({"name": "coco_folder", "root": str(root), **more})


def edited(root: Path, part: str = "train"):
    """The annotations, to be changed and written back."""
    file = root / "annotations" / f"{part}.json"
    content = json.loads(file.read_text())
    return content, lambda: file.write_text(json.dumps(content))


def test_what_is_whole_passes(root):
    boxes = find_dataset(folder(root))
    assert boxes.classes == tuple("0123456789")
    assert check_dataset(boxes, 4) == (6, 3)


def test_classes_keep_the_order_of_the_annotations(root):
    assert find_dataset(folder(root, classes=["7", "2"])).classes == ("2", "7")
    # In which mmdet numbers them, whatever order they are named in.
    data_set = pytest.importorskip("mmdet.datasets").CocoDataset(
        ann_file=str(root / "annotations/train.json"), data_prefix={"img": f"{root}/train/"},
        metainfo={"classes": ("2", "7")}, pipeline=[],
    )  # fmt: skip
    content, _ = edited(root)
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [names[i] for i in data_set.cat_ids] == ["2", "7"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "annotations/train.json").unlink(), "annotations/train.json can't be read: No such file"),
        (lambda root: (root / "annotations/val.json").unlink(), "annotations/val.json can't be read: No such file"),
        (lambda root: (root / "annotations/train.json").write_text("{"), "aren't COCO's: they aren't JSON"),
        (lambda root: (root / "annotations/train.json").write_text("[]"), "expected an object with the lists images"),
        (lambda root: (root / "annotations/val.json").write_text('{"images": []}'), "the list annotations is missing"),
        (lambda root: (root / "train/0003.png").unlink(), "train/0003.png can't be read: No such file"),
        (lambda root: (root / "val/0001.png").write_bytes(b""), "val/0001.png isn't an image, or is empty"),
        (lambda root: os.truncate(root / "train/0002.png", 4000), "train/0002.png is damaged"),
    ],
)  # fmt: skip
def test_files(root, spoil, said):
    spoil(root)
    with pytest.raises(InputError, match=said):
        check_dataset(find_dataset(folder(root)), 4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content["annotations"][1].update(image_id=77), "annotation 1 has image_id 77"),
        (lambda content: content["annotations"][0].update(category_id=0), "category_id 0"),
        (lambda content: content["annotations"][0].pop("bbox"), r"annotations\[0\] has no bbox"),
        (lambda content: content["annotations"][0].update(bbox=[1, 2, 3]), r"annotations\[0\] has no bbox\.3"),
        (lambda content: content["images"][0].pop("file_name"), r"images\[0\] has no file_name"),
        (lambda content: content.update(categories=[]), "categories: list should have at least 1 item"),
        (lambda content: content["annotations"][1].update(id=1), "two annotations have the id 1"),
        (lambda content: content["categories"][1].update(name="0"), "two categories have the name '0'"),
        (lambda content: content["categories"].pop(), "has category_id|category_id 10"),
    ],
)
def test_annotations(root, spoil, said):
    content, write = edited(root)
    content["annotations"].append({**content["annotations"][0], "id": 99_999, "category_id": 10})
    spoil(content)
    write()
    with pytest.raises(InputError, match=said):
        check_dataset(find_dataset(folder(root)), 4)


def test_class_that_only_one_part_lacks(root):
    content, write = edited(root, "val")
    content["categories"] = [c for c in content["categories"] if c["name"] != "4"]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 5]
    write()
    with pytest.raises(InputError, match=r"data\.classes: .*val\.json has no category '4'"):
        check_dataset(find_dataset(folder(root)), 4)


def test_too_few_images(root):
    with pytest.raises(InputError, match="6 images with boxes of these classes don't fill a batch of 7"):
        check_dataset(find_dataset(folder(root)), 7)


def test_coco_without_its_files():
    data = DetectionData.model_validate({"name": "coco", "root": "/nowhere", "classes": "published"})
    assert find_dataset(data, present=False).classes == PUBLISHED_CLASSES
    with pytest.raises(InputError, match=r"instances_train2017\.json can't be read"):
        find_dataset(data)
    every = data.model_copy(update={"classes": "all"})
    assert len(find_dataset(every, present=False).classes) == 80


def test_images_that_have_something_behind_their_end_are_whole(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))
    for name in ("a.jpg", "a.png", "a.bmp"):
        image.save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content + b"trailing")
        check_image(tmp_path / name)
        assert read_pixels(tmp_path / name).shape == (40, 30, 3)
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        for read in (check_image, read_pixels):
            with pytest.raises(InputError, match=name):
                read(tmp_path / name)


def test_loading_reads_what_mmcv_reads(root):
    image = LoadWholeImage().transform({"img_path": str(root / "train/0001.png")})
    with Image.open(root / "train/0001.png") as picture:
        assert np.array_equal(image["img"][..., ::-1], np.asarray(picture))
    assert image["img_shape"] == image["ori_shape"] == (128, 128)


# Through the command


def refused(*words: object) -> str:
    out, err = command(*words, code=2)
    assert out == ""
    assert err.count("sapoolc: ") == 1
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    return err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.classes=['3', 'three']"], "has no category 'three'"),
        (["detector.out_indices=[1, 4]"], "has maps 0 to 3"),
        (["detector.base=ssd/ssd301_coco"], "Did you mean 'ssd/ssd300_coco.py'?"),
        (["detector.frozen_stages=5"], "-1 (none) to 4 can be frozen, not 5"),
        (["data.root=/nowhere"], "can't be read: No such file"),
        (["train.batch_size=7"], "don't fill a batch of 7"),
    ],
)
def test_before_the_first_step(root, more, said, tmp_path):
    assert said in refused("train", "ssd-digits", *overrides(root), *more, "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_image_that_breaks_while_training(root, tmp_path):
    """From a worker, too, a sentence arrives, and the exit code is 2."""
    program = f"""
import sys
from pathlib import Path
import sapool.detect.fit as fit
from sapoolc import main
checked = fit.check_dataset
def check(*arguments):
    counts = checked(*arguments)
    for image in Path({str(root)!r}, "train").iterdir():
        image.write_bytes(image.read_bytes()[:-300])
    return counts
fit.check_dataset = check
sys.exit(main(sys.argv[1:]))
"""
    words = ["train", "ssd-digits", *overrides(root), "data.workers=1", "--run-dir", tmp_path / "run"]
    _, err = command(*words, code=2, program=(sys.executable, "-c", program))
    assert "is damaged" in err
    assert "Traceback" not in err


# Recipes and digits


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("detector.outindices=[1]", "Did you mean 'detector.out_indices'"),
        ("schedule.milestone=[1]", "Did you mean 'schedule.milestones'"),
        ("schedule.milestones=[3, 2]", "expected ascending numbers of epochs"),
        ("data.image_size=[16, 16]", "32 to 8192 pixels"),
        ("data.name=cocoo", "data.name"),
        ("data.name=coco_folder", "data.root: name the folder"),
        ("architecture=resnet18-nlpp-1222", "nearest valid spelling"),
    ],
)
def test_wrong_settings(override, said):
    with pytest.raises(InputError, match=said.replace("[", r"\[")):
        read_recipe("ssd-digits", [override])


def test_epochs_need_a_schedule():
    with pytest.raises(InputError, match=r"train\.epochs needs a section \[schedule\]"):
        read_recipe("rtmdet", ["train.epochs=3"])


def test_digits_are_the_same_everywhere_and_boxes_hold_them(tmp_path):
    for name in ("a", "b"):
        digits.make(tmp_path / name, {"train": 5, "val": 3})
    files = sorted(f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*") if f.is_file())
    assert len(files) == 10
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    digits.make(tmp_path / "c", {"train": 5, "val": 3}, seed=1)
    assert (tmp_path / "c/train/0000.png").read_bytes() != (tmp_path / "a/train/0000.png").read_bytes()
    content = json.loads((tmp_path / "a/annotations/train.json").read_text())
    assert {c["name"] for c in content["categories"]} == set("0123456789")
    for entry in content["annotations"]:
        image = np.asarray(Image.open(tmp_path / "a/train" / content["images"][entry["image_id"]]["file_name"]))
        x, y, width, height = entry["bbox"]
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= digits.SIDE
        # Ink is brighter than any background.
        inside = image[y : y + height, x : x + width].max(2)
        assert (inside > 150).mean() > 0.1
        assert entry["area"] == width * height


def test_digits_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "COUNTS", {"train": 2, "val": 1})
    digits.ensure(tmp_path / "digits")
    stamp = (tmp_path / "digits/train/0000.png").stat().st_mtime_ns
    digits.ensure(tmp_path / "digits")
    assert (tmp_path / "digits/train/0000.png").stat().st_mtime_ns == stamp
    assert sorted(p.name for p in tmp_path.iterdir()) == [".digits.lock", "digits"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be made"):
        digits.ensure(tmp_path / "file" / "digits")
