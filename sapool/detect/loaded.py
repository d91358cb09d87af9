"""A detector's run, opened to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.apis import inference_detector
from mmdet.structures import DetDataSample
from torch import nn

from sapool.detect.binding.config import bind, build_model
from sapool.detect.checkpoints import best_of, read_run_checkpoint
from sapool.detect.data.coco import find
from sapool.detect.data.images import read_whole
from sapool.errors import WeightsError
from sapool.recipes.detection import DetectionRecipe


@dataclass(frozen=True)
class Opened:
    """The best model of a run, ready to predict.

    Attributes:
        model: mmdet's detector.
        classes: names, by label.
        epoch: from 1.
    """

    model: nn.Module
    classes: tuple[str, ...]
    epoch: int


@dataclass(frozen=True)
class Box:
    """A predicted box.

    Attributes:
        label: name of its class.
        score: from 0 to 1.
        corners: x1, y1, x2, y2 in pixels of the image.
    """

    label: str
    score: float
    corners: tuple[float, float, float, float]


def open_run(path: str | Path, recipe: DetectionRecipe) -> Opened:
    """Opens the best model of a run, with the classes that it was trained with.

    Raises:
        InputError: no checkpoint, or one that doesn't fit.
    """
    best = best_of(Path(path))
    bound = bind(recipe, find(recipe.data, present=False), Path(path))
    model = build_model(bound.config)
    epoch = load_into(model, best, recipe)
    # What mmdet's `inference_detector` looks for.
    model.cfg = bound.config
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return Opened(model, tuple(bound.config.val_dataloader.dataset.metainfo.classes), epoch)


def load_into(model: nn.Module, path: Path, recipe: DetectionRecipe) -> int:
    """Loads a checkpoint of a run; returns its epoch, from 1.

    Raises:
        WeightsError: it can't be read or doesn't fit.
    """
    content = read_run_checkpoint(path, recipe.architecture)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} doesn't fit the detector that the run's recipe describes: {reason}") from None
    return int(content["meta"]["epoch"])


def read_pictures(paths: Sequence[str]) -> list[np.ndarray]:
    """Images as OpenCV has them, uint8 (H, W, 3), blue first.

    Raises:
        InputError: one isn't there, isn't an image, or is cut off.
    """
    return [mmcv.imfrombytes(read_whole(path)) for path in paths]


def predict_boxes(opened: Opened, picture: np.ndarray, threshold: float) -> list[Box]:
    """The boxes of a picture whose scores reach a threshold, best first."""
    found: Any = inference_detector(opened.model, picture)
    assert isinstance(found, DetDataSample)
    instances = found.pred_instances.cpu()
    order = instances.scores.argsort(descending=True)
    boxes = []
    for index in order.tolist():
        score = float(instances.scores[index])
        if score >= threshold:
            x1, y1, x2, y2 = (round(float(edge), 2) for edge in instances.bboxes[index])
            boxes.append(Box(opened.classes[int(instances.labels[index])], round(score, 4), (x1, y1, x2, y2)))
    return boxes
