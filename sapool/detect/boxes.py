"""Boxes that a detector finds in images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.apis import inference_detector
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from sapool.boxes.detections import Box
from sapool.runs.images import check_image, read_pixels


def read_pictures(paths: Sequence[str]) -> Iterator[np.ndarray]:
    """Images as OpenCV has them, uint8 (H, W, 3), blue first, one after the other; all are looked at before.

    Raises:
        InputError: one isn't there, isn't an image, is damaged or too large.
    """
    for path in paths:
        check_image(path)
    return (np.ascontiguousarray(read_pixels(path)[..., ::-1]) for path in paths)


def red_first(picture: np.ndarray) -> Tensor:
    """OpenCV's picture, uint8 (H, W, 3), as a tensor, uint8 (3, H, W), red first."""
    return torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).permute(2, 0, 1)


def find_boxes(model: nn.Module, picture: np.ndarray, classes: Sequence[str], threshold: float) -> tuple[Box, ...]:
    """The boxes of a picture whose scores reach a threshold, best first.

    Args:
        model: mmdet's detector.
        picture: uint8 (H, W, 3), blue first.
        classes: names, by label.
        threshold: the lowest score.
    """
    found: Any = inference_detector(model, picture)
    assert isinstance(found, DetDataSample)
    instances = found.pred_instances.cpu()
    order = instances.scores.argsort(descending=True)
    boxes = []
    for index in order.tolist():
        score = float(instances.scores[index])
        if score >= threshold:
            x1, y1, x2, y2 = (round(float(edge), 2) for edge in instances.bboxes[index])
            boxes.append(Box(classes[int(instances.labels[index])], round(score, 4), (x1, y1, x2, y2)))
    return tuple(boxes)
