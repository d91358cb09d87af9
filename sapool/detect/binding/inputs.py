"""What a bound config reads and measures: pipelines of the right size, data sets in COCO's format, CocoMetric."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict

from sapool.boxes.coco import AnnotatedImages, BoxDataset
from sapool.detect.binding.families import SIZES
from sapool.detect.binding.model import in_bytes
from sapool.errors import InputError
from sapool.recipes.detection import DetectionRecipe

Size = tuple[int, int]

_WRAPPERS = ("RepeatDataset", "ClassBalancedDataset", "MultiImageMixDataset")


def base_size(config: Config) -> Size:
    """Width and height that the base resizes images to (or into) for testing.

    Raises:
        InputError: its pipeline doesn't say.
    """
    for transform in _walk(_leaf(config.test_dataloader.dataset)):
        if transform.get("type") == "Resize" and "scale" in transform:
            scale = transform["scale"]
            return (scale, scale) if isinstance(scale, int) else (int(scale[0]), int(scale[1]))
    raise InputError(
        "detector.base: its test pipeline has no Resize with a scale, so images have no size to begin with"
    )


def bind_inputs(config: Config, recipe: DetectionRecipe, dataset: BoxDataset, size: Size, divisor: int) -> None:
    """Sets data sets, loaders, pipelines and evaluators of a config, in place.

    Args:
        config: the base.
        recipe: batch size, workers, whether an epoch is one pass over the data.
        dataset: its images.
        size: width and height of images.
        divisor: of sizes that the base draws at random.
    """
    before = base_size(config)
    workers = {"num_workers": recipe.data.workers, "persistent_workers": recipe.data.workers > 0}
    train = config.train_dataloader
    # The base's repetitions belong to its own number of epochs.
    train.dataset = _data_set(train.dataset, dataset, dataset.train, once=recipe.train.epochs is not None)
    if recipe.data.augment != "base":
        _leave_out_augmentation(config, mirrored=recipe.data.augment == "flip")
    train.update(batch_size=recipe.train.batch_size, **workers)
    # A last batch of one image has no batch statistics where maps have one pixel.
    (train.batch_sampler if train.get("batch_sampler") else train).drop_last = True
    config.val_dataloader.dataset = _data_set(config.val_dataloader.dataset, dataset, dataset.val)
    config.val_dataloader.update(**workers)
    config.test_dataloader = copy.deepcopy(config.val_dataloader)
    metric = config.val_evaluator.get("metric", "bbox") if isinstance(config.val_evaluator, dict) else "bbox"
    config.val_evaluator = ConfigDict(
        type="CocoMetric", ann_file=str(dataset.val.annotations), metric=metric, classwise=True
    )
    config.test_evaluator = copy.deepcopy(config.val_evaluator)
    for part in ("model", "train_dataloader", "val_dataloader", "test_dataloader", "custom_hooks"):
        for transform in _walk(config.get(part)):
            _bind_transform(transform, before, size, divisor)
            if transform["type"] == "Expand":
                # The fill is the mean that is subtracted later; `to_rgb` turns it round for images that are blue first.
                fill = in_bytes(recipe.data.mean)
                transform.update(mean=fill if len(fill) > 1 else fill * 3, to_rgb=True)


def _leaf(data_set: ConfigDict) -> ConfigDict:
    """The data set inside wrappers and concatenations."""
    while "dataset" in data_set or "datasets" in data_set:
        data_set = data_set["dataset"] if "dataset" in data_set else data_set["datasets"][0]
    return data_set


def _data_set(given: ConfigDict, dataset: BoxDataset, part: AnnotatedImages, *, once: bool = False) -> ConfigDict:
    """The base's data set with its pipeline and its wrappers, on other images."""
    if given.type in _WRAPPERS and not (once and given.type != "MultiImageMixDataset"):
        return ConfigDict({**given, "dataset": _data_set(given.dataset, dataset, part, once=once)})
    leaf = _leaf(given)
    kept = {name: leaf[name] for name in ("filter_cfg", "test_mode") if name in leaf}
    return ConfigDict(
        type="CocoDataset",
        data_root="",
        ann_file=str(part.annotations),
        data_prefix={"img": f"{part.images}/"},
        metainfo={"classes": dataset.classes},
        pipeline=leaf.pipeline,
        **kept,
    )


def _leave_out_augmentation(config: Config, *, mirrored: bool) -> None:
    """Reads training images as validation images are read, mirrored or not."""
    steps = _leaf(config.val_dataloader.dataset).pipeline
    sized = [copy.deepcopy(step) for step in steps if step.type in ("Resize", "Pad")]
    flip = [ConfigDict(type="RandomFlip", prob=0.5)] if mirrored else []
    given = config.train_dataloader.dataset
    while given.type == "MultiImageMixDataset":
        given = given.dataset
    _leaf(given).pipeline = [
        ConfigDict(type="LoadImageFromFile"),
        ConfigDict(type="LoadAnnotations", with_bbox=True, with_mask=_with_masks(_leaf(given).pipeline)),
        *sized,
        *flip,
        ConfigDict(type="PackDetInputs"),
    ]
    config.train_dataloader.dataset = given
    # Hooks that change the augmentation on the way have nothing left to change.
    config.custom_hooks = [hook for hook in config.get("custom_hooks", []) if "switch_epoch" not in hook]


def _with_masks(pipeline: Any) -> bool:
    return any(step.get("with_mask", False) for step in _walk(pipeline))


def _walk(part: Any) -> Iterator[ConfigDict]:
    """Every dictionary with a type, from the outside in."""
    if isinstance(part, dict):
        if "type" in part:
            yield part
        for value in part.values():
            yield from _walk(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _walk(value)


def _bind_transform(transform: ConfigDict, before: Size, size: Size, divisor: int) -> None:
    name = transform["type"]
    if name == "LoadImageFromFile":
        transform.type = "LoadWholeImage"
    if name == "BatchSyncRandomResize":
        transform.size_divisor = max(divisor, int(transform.get("size_divisor", 32)))
    place = SIZES.get(name)
    if place in transform and size != before:
        transform[place] = _resized(transform[place], before, size)


def _resized(given: Any, before: Size, size: Size) -> Any:
    """Sizes of a transform, in proportion: the base's own becomes the new one, others follow edge by edge."""
    if isinstance(given, (list, tuple)):
        if tuple(given) == before:
            return size
        if len(given) == 2 and all(isinstance(edge, (int, float)) for edge in given):
            ratios = max(size) / max(before), min(size) / min(before)
            long, short = ratios if abs(given[0]) >= abs(given[1]) else ratios[::-1]
            return (round(given[0] * long), round(given[1] * short))
        return [_resized(item, before, size) for item in given]
    return round(given * max(size) / max(before)) if isinstance(given, (int, float)) else given
