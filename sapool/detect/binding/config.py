"""From a recipe to an ordinary config of mmdet, and the check that it works."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from sapool.boxes.coco import BoxDataset
from sapool.detect.binding.base import load_base
from sapool.detect.binding.families import HEADS
from sapool.detect.binding.inputs import Size, base_size, bind_inputs
from sapool.detect.binding.model import Binding, bind_model, check_parts
from sapool.detect.binding.schedule import bind_training
from sapool.digests import with_digest
from sapool.errors import InputError, WeightsError, WorkError, named
from sapool.recipes.detection import DetectionRecipe
from sapool.weights.atomic import write_text
from sapool.weights.files import misfits

# What mmengine's runner reads. The rest of a base are variables that it was written with.
_SETTINGS = (
    *("custom_imports", "default_scope", "model", "train_dataloader", "val_dataloader", "test_dataloader"),
    *("val_evaluator", "test_evaluator", "train_cfg", "val_cfg", "test_cfg", "optim_wrapper", "param_scheduler"),
    *("default_hooks", "custom_hooks", "sync_bn", "randomness", "env_cfg", "log_processor", "log_level"),
    *("vis_backends", "visualizer", "load_from", "resume", "work_dir"),
)

_ENOUGH = 512  # pixels

STUMBLES = (RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What mmdet raises where a setting isn't what it expects."""


@dataclass(frozen=True)
class BoundConfig:
    """A recipe's config and what was bound in it.

    Attributes:
        config: mmengine's, complete: it needs no base.
        binding: the numbers that follow from the network.
        size: width and height of images.
        classes: how many.
    """

    config: Config
    binding: Binding
    size: Size
    classes: int


def bind(recipe: DetectionRecipe, dataset: BoxDataset, work_dir: Path, *, run: Path | None = None) -> BoundConfig:
    """The config that a recipe describes, on a data set; of a run that is opened, with the base that it keeps.

    Raises:
        InputError: the base, the architecture and the recipe don't fit together.
    """
    config = load_base(recipe.detector.base, run)
    try:
        return _bound(config, recipe, dataset, work_dir)
    except (InputError, WorkError):
        raise
    except STUMBLES as error:
        raise InputError(f"detector.base: {recipe.detector.base} can't be bound: {named(error, 300)}") from error


def _bound(config: Config, recipe: DetectionRecipe, dataset: BoxDataset, work_dir: Path) -> BoundConfig:
    check_parts(config.model)
    before = base_size(config)
    size = before if recipe.data.sides is None else recipe.data.sides[::-1]
    growth = max(size) / max(before)
    binding = bind_model(config, recipe, len(dataset.classes), size, growth)
    bind_inputs(config, recipe, dataset, size, binding.divisor)
    bind_training(config, recipe, work_dir.absolute())
    whole = Config({name: config[name] for name in _SETTINGS if name in config})
    return BoundConfig(Config(whole.to_dict()), binding, size, len(dataset.classes))


def write_config(config: Config, path: str | Path) -> None:
    """Writes a config that `mmengine.Config.fromfile` reads.

    Raises:
        InputError: the file can't be written.
    """
    write_text(path, with_digest(config.pretty_text))


def build_model(config: Config) -> Any:
    """The detector of a config, with batch norms that work in one process.

    Raises:
        InputError: the base describes none that mmdet can build.
    """
    init_default_scope(config.get("default_scope", "mmdet"))
    try:
        model = MODELS.build(copy.deepcopy(config.model))  # some heads write into theirs
    except (InputError, WorkError):
        raise
    except STUMBLES as error:
        raise InputError(
            f"detector.base: mmdet can't build the detector that it describes: {named(error, 300)}"
        ) from error
    return revert_sync_batchnorm(model)


def start_model(config: Config) -> Any:
    """The detector of a config, with weights as training begins with them.

    Raises:
        InputError: the base describes none that mmdet can build, or no start of its weights.
    """
    model = build_model(config)
    try:
        model.init_weights()
    except (InputError, WorkError):
        raise
    except STUMBLES as error:
        raise InputError(
            f"detector.base: mmdet can't initialise the detector that it describes (init_cfg): {named(error, 300)}"
        ) from error
    return model


def check_fits(bound: BoundConfig, content: dict[str, Any], path: Path) -> None:
    """Refuses a checkpoint that isn't of the bound detector, before that takes any memory.

    Args:
        bound: the detector.
        content: of the checkpoint.
        path: its file, for the message.

    Raises:
        WeightsError: tensors are missing, too many, or of other shapes; or it is of an epoch that the run hasn't.
    """
    with torch.device("meta"):
        model = build_model(bound.config)
    if odd := misfits(model.state_dict(), content["state_dict"]):
        raise WeightsError(f"{path} doesn't fit the detector that the run's recipe describes: {odd}")
    if (epoch := content["meta"]["epoch"]) > (epochs := bound.config.train_cfg.max_epochs):
        raise WeightsError(f"{path} is of epoch {epoch:,}, and the run has {epochs:,}; nothing was changed")


def smoke_test(bound: BoundConfig) -> float:
    """One forward and backward of the bound detector, on noise with two boxes; returns the loss.

    Raises:
        WorkError: it doesn't run, its loss is no number, or no gradient reaches the network.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = start_model(bound.config)
        model.train()
        # Some heads and augmentations ask how far training is.
        MessageHub.get_current_instance().update_info_dict({"epoch": 0, "iter": 0})
        try:
            losses = model(**model.data_preprocessor(_noise(bound)), mode="loss")
            loss, _ = model.parse_losses(losses)
            loss.backward()
        except STUMBLES as error:
            raise WorkError(
                f"the bound detector doesn't run: {named(error)}; the base may need what the binder doesn't know of"
            ) from error
    if not loss.isfinite():
        raise WorkError(f"the bound detector's first loss is {loss.item()}")
    learning = [p for p in model.backbone.parameters() if p.requires_grad]
    if learning and not any(p.grad is not None and p.grad.abs().sum() > 0 for p in learning):
        raise WorkError("no gradient of the bound detector's loss reaches the network")
    return float(loss.item())


def _noise(bound: BoundConfig) -> dict[str, Any]:
    """Two images of noise with two boxes each, of the first and of the last class; no larger than they need to be."""
    fixed = any(HEADS[name].fixed for _, name, _ in bound.binding.heads)
    width, height = bound.size if fixed else (_side(edge, bound.binding.divisor) for edge in bound.size)
    boxes = torch.tensor([[0.1, 0.1, 0.6, 0.5], [0.4, 0.3, 0.9, 0.95]]) * torch.tensor([width, height] * 2)
    sample = DetDataSample(
        metainfo={"img_shape": (height, width), "ori_shape": (height, width), "scale_factor": (1, 1)}
    )
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, bound.classes - 1]))
    if "mask_head" in bound.config.model.get("roi_head", {}):
        masks = np.zeros((2, height, width), dtype=np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        sample.gt_instances.masks = BitmapMasks(masks, height, width)
    images = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(2)]
    return {"inputs": images, "data_samples": [sample, copy.deepcopy(sample)]}


def _side(pixels: int, divisor: int) -> int:
    """Enough cells of the deepest map, and as few pixels as that takes."""
    return min(-(-pixels // divisor), max(4, _ENOUGH // divisor)) * divisor
