"""The published detectors' recipes, field by field, and ten steps of how they train."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

import sapool
from sapool.detect.binding.config import Bound, bind, try_once
from sapool.detect.checkpoints import pretrained
from sapool.errors import InputError, WeightsError
from sapool.recipes.detection import DetectionRecipe
from sapool.recipes.reading import read_recipe, to_toml
from tests.detect.support import coco

IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
UNIT = ([0.0, 0.0, 0.0], [255.0, 255.0, 255.0])
PHOTOMETRIC = {"brightness_delta": 32, "contrast_range": (0.5, 1.5), "saturation_range": (0.5, 1.5), "hue_delta": 18}
YOLO_SIZES = [
    [(116, 90), (156, 198), (373, 326)],
    [(30, 61), (62, 45), (59, 119)],
    [(10, 13), (16, 30), (33, 23)],
]


def resolved(name: str, *overrides: str) -> Bound:
    recipe = read_recipe(name, overrides)
    assert isinstance(recipe, DetectionRecipe)
    return bind(recipe, coco(recipe), Path("work"))


def config_of(name: str) -> Config:
    return resolved(name).config


def steps(config: Config) -> dict[str, Any]:
    """The training pipeline by the transforms' names."""
    return {step.type: step for step in config.train_dataloader.dataset.pipeline}


FIELDS: dict[str, dict[str, Any]] = {
    "faster_rcnn": {
        "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False},
        "clip": 20,
        "warmup": (500, 0.001),
        "epochs": 12,
        "batch": 1,
        "every": (1, 1),
        "normalization": IMAGENET,
        "maps": (0, 1, 2, 3),
    },
    "ssd": {
        "optimizer": {"type": "SGD", "lr": 0.015, "momentum": 0.9, "weight_decay": 4e-5, "nesterov": False},
        "clip": None,
        "warmup": (500, 0.001),
        "epochs": 20,
        "batch": 16,
        "every": (5, 5),
        "normalization": IMAGENET,
        "maps": (4, 7),
    },
    "yolov3": {
        "optimizer": {"type": "SGD", "lr": 0.001, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False},
        "clip": 35,
        "warmup": (2000, 0.1),
        "epochs": 10,
        "batch": 4,
        "every": (1, 1),
        "normalization": UNIT,
        "maps": (2, 4, 6),
    },
}
FIELDS["ssd-resnet18"] = {**FIELDS["ssd"], "maps": (2, 3)}
FIELDS["yolov3-resnet18"] = {**FIELDS["yolov3"], "batch": 1, "maps": (1, 2, 3)}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_that_all_have(name: str) -> None:
    config = config_of(name)
    warmup = config.param_scheduler[0]
    assert {
        "optimizer": dict(config.optim_wrapper.optimizer),
        "clip": config.optim_wrapper.get("clip_grad", {}).get("max_norm"),
        "warmup": (warmup.end, warmup.start_factor),
        "epochs": config.train_cfg.max_epochs,
        "batch": config.train_dataloader.batch_size,
        "every": (config.train_cfg.val_interval, config.default_hooks.checkpoint.interval),
        "normalization": (config.model.data_preprocessor.mean, config.model.data_preprocessor.std),
        "maps": config.model.backbone.out_indices,
    } == FIELDS[name]
    assert (warmup.type, warmup.by_epoch, config.model.data_preprocessor.bgr_to_rgb) == ("LinearLR", False, True)
    assert config.model.backbone.dialect == "paper"
    names = ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "traffic light")
    assert tuple(config.train_dataloader.dataset.metainfo.classes) == names
    assert steps(config)["RandomFlip"].prob == 0.5
    assert config.model.data_preprocessor.pad_size_divisor == 32


def test_faster_rcnn() -> None:
    config = config_of("faster_rcnn")
    assert (config.param_scheduler[1].milestones, config.param_scheduler[1].gamma) == ([8, 11], 0.1)
    resize = steps(config)["Resize"]
    assert (tuple(resize.scale), resize.keep_ratio) == ((1333, 800), True)
    assert (config.model.neck.type, config.model.neck.out_channels, config.model.neck.num_outs) == ("FPN", 256, 5)
    anchors, box = config.model.rpn_head.anchor_generator, config.model.roi_head.bbox_head
    assert (list(anchors.scales), list(anchors.ratios)) == ([8], [0.5, 1.0, 2.0])
    assert list(anchors.strides) == [4, 8, 16, 32, 64]
    assert (box.type, box.fc_out_channels) == ("Shared2FCBBoxHead", 1024)


@pytest.mark.parametrize(("name", "inputs"), [("ssd", [96, 1280]), ("ssd-resnet18", [256, 512])])
def test_ssd(name: str, inputs: list[int]) -> None:
    config = config_of(name)
    cosine = config.param_scheduler[1]
    assert (cosine.type, cosine.T_max, cosine.end, cosine.eta_min) == ("CosineAnnealingLR", 20, 20, 0.0)
    pipeline = steps(config)
    assert (tuple(pipeline["Resize"].scale), pipeline["Resize"].keep_ratio) == ((320, 320), False)
    expand, crop = pipeline["Expand"], pipeline["MinIoURandomCrop"]
    assert (tuple(expand.ratio_range), list(expand.mean)) == ((1, 4), IMAGENET[0])
    assert (tuple(crop.min_ious), crop.min_crop_size) == ((0.1, 0.3, 0.5, 0.7, 0.9), 0.3)
    photometric = pipeline["PhotoMetricDistortion"]
    assert {key: photometric[key] for key in PHOTOMETRIC} == PHOTOMETRIC
    neck, head = config.model.neck, config.model.bbox_head
    norm = {"type": "BN", "eps": 0.001, "momentum": 0.03}
    assert list(neck.in_channels) == inputs
    for channels in (neck.out_channels, head.in_channels):
        assert list(channels) == [*inputs, 512, 256, 256, 128]
    assert (tuple(neck.level_strides), tuple(neck.level_paddings)) == ((2,) * 4, (1,) * 4)
    for part in (neck, head):
        assert (part.use_depthwise, dict(part.norm_cfg), part.act_cfg.type) == (True, norm, "ReLU6")
    anchors = head.anchor_generator
    assert list(anchors.min_sizes) == [48, 100, 150, 202, 253, 304]
    assert list(anchors.max_sizes) == [100, 150, 202, 253, 304, 320]
    assert [list(ratios) for ratios in anchors.ratios] == [[2, 3]] * 6
    # 107 is what a third of 320 pixels was rounded to; ours stand in the middle of their cells.
    assert [round(stride) for stride in anchors.strides] == [16, 32, 64, 107, 160, 320]
    test = config.model.test_cfg
    assert (test.nms.iou_threshold, test.score_thr, test.max_per_img) == (0.45, 0.02, 200)


@pytest.mark.parametrize(
    ("name", "inputs", "neck_out", "head_out"),
    [
        ("yolov3", [320, 96, 32], [96, 96, 96], [96, 96, 96]),
        ("yolov3-resnet18", [512, 256, 128], [256, 128, 64], [512, 256, 128]),
    ],
)
def test_yolov3(name: str, inputs: list[int], neck_out: list[int], head_out: list[int]) -> None:
    config = config_of(name)
    assert (config.param_scheduler[1].milestones, config.param_scheduler[1].gamma) == ([218, 246], 0.1)
    pipeline = steps(config)
    resize = pipeline["RandomResize"]
    assert ([tuple(scale) for scale in resize.scale], resize.keep_ratio) == ([(320, 320), (608, 608)], True)
    test_resize = next(step for step in config.test_dataloader.dataset.pipeline if step.type == "Resize")
    assert (tuple(test_resize.scale), test_resize.keep_ratio) == ((608, 608), True)
    expand, crop = pipeline["Expand"], pipeline["MinIoURandomCrop"]
    assert (tuple(expand.ratio_range), list(expand.mean)) == ((1, 2), UNIT[0])
    assert tuple(crop.min_ious) == (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    # mmdet's own defaults are the published numbers.
    assert set(pipeline["PhotoMetricDistortion"]) == {"type"}
    neck, head = config.model.neck, config.model.bbox_head
    assert (list(neck.in_channels), list(neck.out_channels)) == (inputs, neck_out)
    assert (list(head.in_channels), list(head.out_channels)) == (neck_out, head_out)
    assert [[tuple(size) for size in level] for level in head.anchor_generator.base_sizes] == YOLO_SIZES
    for strides in (head.anchor_generator.strides, head.featmap_strides):
        assert list(strides) == [32, 16, 8]
    test = config.model.test_cfg
    assert (test.nms.iou_threshold, test.score_thr, test.conf_thr, test.max_per_img) == (0.45, 0.05, 0.005, 100)


@pytest.mark.parametrize("name", ["yolov3", "ssd-resnet18"])
def test_they_run(name: str) -> None:
    assert math.isfinite(try_once(resolved(name, "data.image_size=[320, 320]")))


def test_mmdets_own_schedules_have_names_of_their_own() -> None:
    yolo, ssd = config_of("yolov3-mmdet"), config_of("ssd-mmdet")
    assert (yolo.train_cfg.max_epochs, ssd.train_cfg.max_epochs) == (273, 600)
    assert list(yolo.model.neck.out_channels) == [512, 256, 128]


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("yolov3", "detector.neck_channels=[96, 96]", r"detector.neck_channels: YOLOV3Neck takes 3 numbers, not 2"),
        ("faster_rcnn", "detector.neck_channels=[256]", "detector.neck_channels: FPN has no channels to choose"),
        ("faster_rcnn", "detector.head_channels=[256]", "detector.head_channels: RPNHead has no channels to choose"),
    ],
)
def test_channels_that_cannot_be_chosen(name: str, override: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolved(name, override)


PER_EPOCH = 4


def literal_rates(name: str) -> Iterator[float]:
    """The rate of each step, with so few steps in an epoch that the warm-up outlasts them all."""
    fields = FIELDS[name]
    rate, (warmup, start) = fields["optimizer"]["lr"], fields["warmup"]
    total = fields["epochs"] * PER_EPOCH
    for step in range(total):
        risen = start + (1 - start) * min(step / (warmup - 1), 1)
        fall = (1 + math.cos(math.pi * step / total)) / 2 if name == "ssd" else 1.0
        if name == "faster_rcnn":
            fall = 0.1 ** sum(step // PER_EPOCH >= epoch for epoch in (8, 11))
        yield rate * risen * fall


@pytest.mark.parametrize("name", ["faster_rcnn", "ssd", "yolov3"])
def test_training_steps_follow_a_literal_loop(name: str) -> None:
    config = config_of(name)
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(2, 3, generator=generator, dtype=torch.float64))
    target = 9 * torch.randn(2, 3, generator=generator, dtype=torch.float64)
    mine, velocity = model.weight.detach().clone(), torch.zeros(2, 3, dtype=torch.float64)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    schedulers = []
    for given in config.param_scheduler:
        arguments = {"optimizer": wrapper, "epoch_length": PER_EPOCH, **given}
        if arguments.pop("convert_to_iter_based", False):
            cls = PARAM_SCHEDULERS.get(arguments.pop("type"))
            schedulers.append(cls.build_iter_from_epoch(**arguments))
        else:
            arguments.pop("epoch_length")
            schedulers.append(PARAM_SCHEDULERS.build(arguments))
    decay, clip = FIELDS[name]["optimizer"]["weight_decay"], FIELDS[name]["clip"]
    total = FIELDS[name]["epochs"] * PER_EPOCH
    for step, rate in enumerate(islice(literal_rates(name), total)):
        assert wrapper.get_lr()["lr"][0] == pytest.approx(rate, rel=1e-9)
        if step < 10:
            wrapper.update_params(((model.weight - target) ** 4).sum())
            gradient = 4 * (mine - target) ** 3
            if clip is not None:
                gradient = gradient * min(1.0, clip / (float(gradient.norm()) + 1e-6))
            velocity = 0.9 * velocity + gradient + decay * mine
            mine = mine - rate * velocity
            assert torch.allclose(model.weight.detach(), mine, rtol=1e-9, atol=1e-12)
        for scheduler in schedulers:
            if not scheduler.by_epoch or (step + 1) % PER_EPOCH == 0:
                scheduler.step()


@pytest.mark.parametrize("published_file", [False, True])
def test_weights_of_a_classifiers_run_and_of_the_authors(tmp_path: Path, published_file: bool) -> None:
    text = "resnet18-lip-1222"
    classifier = sapool.compile(text, num_classes=10, dialect="paper", image_size=64)
    if published_file:
        # Of the keys that the authors name otherwise, a pool's is enough.
        state = {f"module.net.{key}": value for key, value in classifier.state_dict().items() if "pools" not in key}
        source = tmp_path / "resnet18.pth"
        logit = classifier.state_dict()["pools.stage2.logit.0.weight"]
        state["module.net.layer2.pool.logit.pool_weight.logit.0.weight"] = logit
        torch.save({"accuracy": 0.8, "epoch": 299, "state_dict": state, "optimizer": {}}, source)
    else:
        source = tmp_path / "run"
        source.mkdir()
        recipe = read_recipe("digits", [f"architecture={text}", "dialect=paper"])
        (source / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
        with pytest.raises(WeightsError, match=r"isn't finished: it has no model\.pt"):
            pretrained(str(source), classifier.state_dict(), classifier.plan)
        sapool.save(classifier, source / "model.pt")
    config = resolved("faster_rcnn", f"architecture={text}", f"weights={source}").config
    torch.manual_seed(5)
    backbone = MODELS.build(copy.deepcopy(config.model.backbone))
    assert not torch.equal(backbone.conv1.weight, classifier.conv1.weight)
    backbone.init_weights()
    given, got = classifier.state_dict(), backbone.state_dict()
    loaded = [key for key in got if torch.equal(got[key], given[key])]
    assert "layer4.1.conv2.weight" in loaded
    assert "pools.stage2.logit.0.weight" in loaded
    assert ("pools.stage3.logit.0.weight" in loaded) != published_file
