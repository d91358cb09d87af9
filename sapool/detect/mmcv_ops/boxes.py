"""Suppression of overlapping boxes, as mmcv's Python code calls it.

`offset` is 1 where the last pixel of a box belongs to it.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes (N, 4) that stay, best score first."""
    return torchvision.ops.nms(_closed(boxes, offset), scores, iou_threshold)  # type: ignore[no-any-return]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int = 0,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017, algorithm 1): overlapping boxes lose score in place of being dropped.

    Args:
        boxes, scores: (N, 4) and (N,).
        dets: (N, 5); its first rows are filled with the boxes that stay and their new scores.
        iou_threshold: from which on boxes overlap; the Gaussian method has none.
        sigma: of the Gaussian method.
        min_score: below which a box is dropped.
        method: 0 drops overlapping boxes, 1 scales by 1 - IoU, 2 by exp(-IoU² / sigma).
        offset: as everywhere here.

    Returns:
        Their indices, in the order in which they were taken.
    """
    closed, left = _closed(boxes, offset), torch.arange(len(boxes), device=boxes.device)
    remaining, kept = scores.clone(), 0
    indices = torch.empty_like(left)
    while len(left):
        best = int(remaining.argmax())
        index = left[best]
        dets[kept, :4], dets[kept, 4], indices[kept] = boxes[index], remaining[best], index
        kept += 1
        overlap = torchvision.ops.box_iou(closed[index][None], closed[left])[0]
        if method == 0:
            weight = (overlap < iou_threshold).to(remaining)
        elif method == 1:
            weight = torch.where(overlap < iou_threshold, 1.0, 1 - overlap)
        else:
            weight = torch.exp(-(overlap**2) / sigma)
        remaining = remaining * weight
        stays = remaining >= min_score
        stays[best] = False
        left, remaining = left[stays], remaining[stays]
    return indices[:kept]


def _closed(boxes: Tensor, offset: int) -> Tensor:
    """Boxes whose width is x2 - x1."""
    return boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes
