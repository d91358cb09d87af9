"""Boxes that a detector of torchvision's finds in images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from sapool.boxes.detections import Box


def find_boxes(
    model: nn.Module, pictures: Sequence[Tensor], classes: Sequence[str], threshold: float
) -> Iterator[tuple[Box, ...]]:
    """The boxes of each picture whose scores reach a threshold, best first.

    Args:
        model: torchvision's detector, in evaluation mode.
        pictures: uint8 (C, H, W) each.
        classes: names, by label less one.
        threshold: the lowest score.
    """
    device = next(model.parameters()).device
    for picture in pictures:
        with torch.inference_mode(), _reporting(model, threshold):
            found = model([TF.to_dtype(picture, torch.float32, scale=True).to(device)])[0]
        order = found["scores"].argsort(descending=True)
        rows = zip(found["labels"][order].tolist(), found["scores"][order].tolist(), _rounded(found["boxes"][order]),
                   strict=True)  # fmt: skip
        yield tuple(
            Box(
                classes[label - 1],
                round(score, 4),
                (round(box[0], 2), round(box[1], 2), round(box[2], 2), round(box[3], 2)),
            )
            for label, score, box in rows
            if score >= threshold
        )


@contextmanager
def _reporting(model: nn.Module, threshold: float) -> Iterator[None]:
    """Meanwhile a detector doesn't keep back what reaches a threshold below its own."""
    owner: Any = getattr(model, "roi_heads", model)
    own = owner.score_thresh
    owner.score_thresh = min(own, threshold)
    try:
        yield
    finally:
        owner.score_thresh = own


def _rounded(boxes: Tensor) -> list[list[float]]:
    return [[round(edge, 2) for edge in box] for box in boxes.tolist()]
