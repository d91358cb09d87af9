"""The recipes of the published runs: what they resolve to, and when their figures are shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import sapool
from sapool.classify.data.transforms import evaluation_steps
from sapool.classify.published import _BATCHES, _FREE, compare_with_published, published_accuracy, table
from sapool.recipes.reading import flat, read_recipe

ROOT = Path(__file__).parents[2]
LIP = "architecture=mobilenet-lip-2222121"

# Semantics §7.
STL10 = {
    "dialect": "paper",
    "weights": None,
    "select": "test",
    "data.name": "stl10",
    "data.image_size": 128,
    "data.augment": "resized_crop",
    "data.flip": True,
    "data.mean": [0.5, 0.5, 0.5],
    "data.std": [0.5, 0.5, 0.5],
    "data.crop_ratio": 1.0,
    "data.randaugment": 0,
    "data.mixup": 0.0,
    "data.cutmix": 0.0,
    "optimizer.name": "sgd",
    "optimizer.lr": 0.01,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "optimizer.amsgrad": True,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "step",
    "schedule.milestones": [0.6, 0.8, 0.9],
    "schedule.gamma": 0.2,
    "schedule.warmup_epochs": 0.0,
    "train.epochs": 299,
    "train.batch_size": 8,
    "train.drop_last": False,
    "train.steps_per_epoch": None,
    "train.accumulate": 1,
    "train.seed": 0,
    "train.label_smoothing": 0.0,
    "train.clip_norm": None,
    "train.ema": None,
    "train.precision": "32-true",
}


def test_stl10_is_as_published():
    settings = flat(read_recipe("stl10"))
    assert {name: settings[name] for name in STL10} == STL10


def test_the_honest_recipe_differs_in_what_selects_alone():
    published, honest = flat(read_recipe("stl10")), flat(read_recipe("stl10-val"))
    assert {name for name in published if published[name] != honest[name]} == {"select"}


def test_imagenets_test_images_are_resized_and_cropped_to_one_side():
    data = read_recipe("imagenet-published").data
    resize, crop = evaluation_steps(data)
    assert (resize.size, tuple(crop.size)) == ([224], (224, 224))
    resize, _ = evaluation_steps(read_recipe("imagenet").data)
    assert resize.size == [256]


def test_the_table_has_the_authors_rows():
    rows = table()
    assert len(rows) == 127
    assert {row.batch_norm_images for row in rows} == {4, 8}
    on_two = [row for row in rows if row.batch_norm_images == 4]
    assert len(on_two) == 24
    assert {row.image_size for row in on_two} == {224}
    assert {row.epochs for row in rows} == {299, 599}


def test_figures_of_published_settings():
    assert published_accuracy(read_recipe("stl10", [LIP])) == 0.6823
    two = ["train.devices=0,1", "train.batch_size=4"]
    large = ["architecture=resnet18-nlp-2222", "data.image_size=224"]
    assert published_accuracy(read_recipe("stl10", [*large, *two])) == 0.8284
    assert published_accuracy(read_recipe("stl10", [*large, "train.epochs=599"])) == 0.8337
    # Where and with how many processes it loads doesn't matter.
    free = ["data.root=/data", "data.workers=4", "train.accelerator=cpu", "train.log_every=1", "train.devices=[1]"]
    assert published_accuracy(read_recipe("stl10", [LIP, *free])) == 0.6823
    # Nor does what has no effect.
    idle = ["data.magnitude=5", "data.validation=0.2", "schedule.min_lr=0.001", "optimizer.amsgrad=false"]
    assert published_accuracy(read_recipe("stl10", [LIP, *idle])) == 0.6823


CHANGES = {
    "select=val": "select is val, published test",
    "dialect=torchvision": "dialect is torchvision, published paper",
    "weights=DEFAULT": "weights is DEFAULT, published none",
    "pools_start=torch": "pools_start is torch, published backbone",
    "model.in_chans=1": "model.in_chans is 1, published 3; data.mean is [0.5], published [0.5, 0.5, 0.5]; "
    "data.std is [0.5], published [0.5, 0.5, 0.5]",
    "data.image_size=100": "data.image_size is 100, published 128",
    "data.augment=none": "data.augment is none, published resized_crop",
    "data.flip=false": "data.flip is False, published True",
    "data.mean=[0.4, 0.5, 0.5]": "data.mean is [0.4, 0.5, 0.5], published [0.5, 0.5, 0.5]",
    "data.std=[0.5, 0.4, 0.5]": "data.std is [0.5, 0.4, 0.5], published [0.5, 0.5, 0.5]",
    "data.crop_ratio=0.875": "data.crop_ratio is 0.875, published 1.0",
    "data.randaugment=2": "data.randaugment is 2, published 0",
    "data.mixup=0.2": "data.mixup is 0.2, published 0.0",
    "data.cutmix=1": "data.cutmix is 1.0, published 0.0",
    "optimizer.name=adam": "optimizer.name is adam, published sgd",
    "optimizer.lr=0.02": "optimizer.lr is 0.02, published 0.01",
    "optimizer.momentum=0.8": "optimizer.momentum is 0.8, published 0.9",
    "optimizer.nesterov=true": "optimizer.nesterov is True, published False",
    "optimizer.weight_decay=1e-4": "optimizer.weight_decay is 0.0001, published 0.0",
    "schedule.name=cosine": "schedule.name is cosine, published step",
    "schedule.milestones=[0.5]": "schedule.milestones is [0.5], published [0.6, 0.8, 0.9]",
    "schedule.gamma=0.1": "schedule.gamma is 0.1, published 0.2",
    "schedule.warmup_epochs=1": "schedule.warmup_epochs is 1.0, published 0.0",
    "train.epochs=300": "train.epochs is 300, published 299",
    "train.batch_size=16": "16 images a step, published 8; batch norms see 16 images, published 8",
    "train.drop_last=true": "train.drop_last is True, published False",
    "train.steps_per_epoch=10": "train.steps_per_epoch is 10, published none",
    "train.accumulate=2": "train.accumulate is 2, published 1; 16 images a step, published 8",
    "train.seed=1": "train.seed is 1, published 0",
    "train.label_smoothing=0.1": "train.label_smoothing is 0.1, published 0.0",
    "train.clip_norm=1": "train.clip_norm is 1.0, published none",
    "train.ema=0.9": "train.ema is 0.9, published none",
    "train.precision=bf16-mixed": "train.precision is bf16-mixed, published 32-true",
    "train.devices=2": "16 images a step, published 8",
    "train.nodes=2": "16 images a step, published 8",
}


@pytest.mark.parametrize(("change", "differs"), CHANGES.items(), ids=CHANGES)
def test_a_changed_setting_is_told_beside_the_figure(change, differs):
    recipe = read_recipe("stl10", [LIP, change])
    assert published_accuracy(recipe) is None
    found = compare_with_published(recipe)
    assert found.row.accuracy == 0.6823
    assert "; ".join(found.differences) == differs


def test_every_setting_is_compared_or_known_to_be_free():
    tried = {change.partition("=")[0] for change in CHANGES}
    idle = {"data.name", "data.validation", "data.magnitude", "optimizer.amsgrad", "schedule.warmup_start"}
    idle |= {"schedule.min_lr", "train.temperature_epochs", "plan"}
    assert set(flat(read_recipe("stl10"))) == tried | idle | _FREE | _BATCHES


def test_an_edited_plan_is_another_network(tmp_path):
    plan = sapool.make_plan("mobilenet-lip-2222121", dialect="paper", num_classes=10, image_size=128)
    file = tmp_path / "plan.json"
    file.write_text(plan.with_pool("stage3", "avgp").to_json())
    found = compare_with_published(read_recipe("stl10", [f"architecture={file}"]))
    assert found.differences == ("plan is edited, published none",)


def test_settings_that_matter_only_to_others():
    def differs(*overrides):
        return compare_with_published(read_recipe("stl10", [LIP, *overrides])).differences

    assert "optimizer.amsgrad is False, published True" in differs("optimizer.name=adam", "optimizer.amsgrad=false")
    assert "optimizer.amsgrad is False, published True" not in differs("optimizer.name=adam")
    two = ("train.devices=0,1", "train.batch_size=4")
    assert differs(*two) == ("batch norms see 4 images, published 8",)
    assert differs(*two, "train.sync_batchnorm=true") == ()


@pytest.mark.parametrize(
    ("architecture", "size", "differs"),
    [
        ("prepool-skip-4-mobilenet_v2-skip-1222121", 128, ""),
        (
            "prepool-nlp_headfix2_nowin-4-mobilenet_v2-skip-1222121",
            128,
            "the published code ignores the prepool's nowin",
        ),
    ],
)
def test_strings_that_the_published_code_reads_otherwise(architecture, size, differs):
    recipe = read_recipe("stl10", [f"architecture={architecture}", f"data.image_size={size}"])
    assert "; ".join(compare_with_published(recipe).differences) == differs


def test_no_figure_of_other_networks_and_data():
    assert compare_with_published(read_recipe("digits")) is None
    assert (
        compare_with_published(read_recipe("stl10", ["architecture=resnet34-skip-1222", "dialect=torchvision"])) is None
    )
    assert compare_with_published(read_recipe("stl10", [LIP, "data.name=cifar10"])) is None


SIX = [
    *(f"mobilenet_v2-nlp_headfix2-{strides}" for strides in ("1222121", "2222121", "4222121")),
    *("resnet18-nlp-1222", "resnet18-nlp_headfix2-2222", "resnet18-nlp_headfix2-4222"),
]


def test_the_six_published_commands():
    page = (ROOT / "docs" / "from-the-paper.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ *(sapoolc train stl10 .*)$", page, flags=re.M)
    assert len(lines) == 6
    for line, architecture in zip(lines, SIX, strict=True):
        recipe = read_recipe("stl10", shlex.split(line)[3:])
        assert (recipe.architecture, recipe.dialect, recipe.data.image_size) == (architecture, "paper", 128)
        assert (recipe.train.devices, recipe.train.batch_size * recipe.train.processes) == ((0, 1), 8)
        assert compare_with_published(recipe).differences == ("batch norms see 4 images, published 8",)
