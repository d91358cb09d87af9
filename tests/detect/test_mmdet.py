"""mmdet's own tools with our backbone: a user's config, and configs that we write."""

from __future__ import annotations

import sys
from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config

from tests.detect.support import CHEAP, command, made, overrides

TOOLS = Path(mmdet.__file__).parent / ".mim" / "tools"

USERS_OWN = """
_base_ = {base!r}
custom_imports = dict(imports=["sapool.detect"], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type="SapoolBackbone", arch={arch!r}, out_indices=(1, 2), frozen_stages=0),
    neck=dict(in_channels=(128, 256), out_channels=(128, 256, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(128, 256, 512, 256, 256, 128), num_classes=10),
)
data_root = {root!r}
classes = tuple("0123456789")
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(128, 128), keep_ratio=False),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True, type="CocoDataset", data_root=data_root, metainfo=dict(classes=classes),
        ann_file="annotations/train.json", data_prefix=dict(img="train/"), pipeline=pipeline,
    ),
)
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root, metainfo=dict(classes=classes), ann_file="annotations/val.json",
        data_prefix=dict(img="val/"),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "/annotations/val.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(logger=dict(interval=2))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("data") / "digits", 8, 2)


def script(name: str, *words: object) -> str:
    return "".join(command(TOOLS / name, *words, program=(sys.executable,)))


@pytest.mark.slow
def test_a_users_own_config_trains_resumes_and_is_tested_by_mmdets_scripts(data, tmp_path):
    base = str(TOOLS.parent / "configs/ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py")
    config = tmp_path / "own.py"
    config.write_text(USERS_OWN.format(base=base, arch=CHEAP, root=str(data)))
    work = tmp_path / "work"
    said = script("train.py", config, "--work-dir", work)
    assert "Epoch(train) [2][2/2]" in said
    assert "coco/bbox_mAP: " in said
    assert (work / "epoch_2.pth").exists()
    said = script("train.py", config, "--work-dir", work, "--resume", "--cfg-options", "train_cfg.max_epochs=3")
    assert "resumed epoch: 2" in said
    assert "Epoch(train) [3][2/2]" in said
    words = (TOOLS / "test.py", config, work / "epoch_3.pth", "--work-dir", work)
    assert "coco/bbox_mAP: " in "".join(command(*words, program=(sys.executable, "-m", "sapool.detect")))
    state = torch.load(work / "epoch_3.pth", weights_only=True)["state_dict"]
    assert "backbone.layer1.0.conv1.weight" in state


@pytest.mark.slow
def test_a_written_config_trains_with_mmdets_script(data, tmp_path):
    file = tmp_path / "config.py"
    out, _ = command("train", "ssd-digits", *overrides(data), "train.epochs=1", "--dry-run", "-o", file)
    assert "what the heads see" in out
    assert "a training batch of 4 took" in out
    config = Config.fromfile(file)
    assert config.model.backbone.type == "SapoolBackbone"
    assert config.custom_imports.imports == ["sapool.detect"]
    assert "work_dir" not in config
    said = script("train.py", file, "--work-dir", tmp_path / "work")
    assert "coco/bbox_mAP: " in said


def test_compiling_a_recipe_writes_the_same_config(data, tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'extends = "ssd-digits"\narchitecture = "{CHEAP}"\n[data]\nname = "coco_folder"\nroot = "{data}"\n'
        "[train]\nbatch_size = 4\n"
    )
    command("compile", recipe, "-o", one)
    command("train", recipe, "--dry-run", "-o", other)
    assert one.read_text() == other.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "rtmdet"])
def test_shipped_recipes_compile_without_their_data(name, tmp_path):
    out, _ = command("compile", name, "-o", tmp_path / "config.py")
    assert "what the neck takes" in out
    config = Config.fromfile(tmp_path / "config.py")
    count = {"faster_rcnn": 8, "rtmdet": 80}[name]
    assert len(config.train_dataloader.dataset.metainfo.classes) == count
    if name == "faster_rcnn":
        assert config.optim_wrapper.optimizer.to_dict() == {
            "type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False
        }  # fmt: skip
        assert config.optim_wrapper.clip_grad.max_norm == 20
        warmup, steps = config.param_scheduler
        assert (warmup.end, steps.milestones, config.train_cfg.max_epochs) == (500, [8, 11], 12)
        assert config.test_dataloader.dataset.pipeline[1].scale == (1333, 800)
    else:
        assert config.optim_wrapper.optimizer.lr == 0.004
        assert [hook.type for hook in config.custom_hooks] == ["EMAHook", "PipelineSwitchHook", "DropConfig"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compile", "ssd-digits"], "name it with -o"),
        (["compile", "ssd-digits", "-o", "config.json"], "expected .py"),
        (["compile", "ssd-digits", "--num-classes", "3", "-o", "c.py"], "--num-classes can't change them"),
        (["compile", "digits", "-o", "c.py"], "is a classifier's recipe; compile its architecture"),
        (["train", "ssd-digits", "-o", "c.py"], "-o goes with --dry-run"),
        (["train", "digits", "-o", "c.py"], "-o is for a detector's recipe"),
    ],
)
def test_misused_outputs(words, said, tmp_path):
    out, err = command(*words, code=2)
    assert out == ""
    assert said in err
