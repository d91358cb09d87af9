"""Regions of interest, as mmcv's Python code calls them: rois are (K, 5), the image's index and x1, y1, x2, y2."""

from __future__ import annotations

import torch
from torch import Tensor

from sapool.detect.mmcv_ops.missing import missing

_AVERAGE = 1


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign with averages, (N, C, H, W) into (K, C, aligned_height, aligned_width)."""
    if pool_mode != _AVERAGE:
        missing("roi_align with pool_mode='max'")
    size = (aligned_height, aligned_width)
    output.copy_(torch.ops.torchvision.roi_align(input, rois, spatial_scale, *size, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """The gradient of `roi_align_forward` with respect to its input."""
    size = (aligned_height, aligned_width)
    backward = torch.ops.torchvision._roi_align_backward
    grad_input.copy_(backward(grad_output, rois, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned))


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoIPool as Fast R-CNN (Girshick, ICCV 2015) and torchvision have it: regions are rounded to whole pixels.

    mmcv's CUDA kernel doesn't round them, and takes the pixel behind a region into it.
    """
    pooled, places = torch.ops.torchvision.roi_pool(input, rois, spatial_scale, pooled_height, pooled_width)
    output.copy_(pooled)
    argmax.copy_(places)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """The gradient of `roi_pool_forward` with respect to its input."""
    size = (pooled_height, pooled_width)
    backward = torch.ops.torchvision._roi_pool_backward
    grad_input.copy_(backward(grad_output, rois, argmax, spatial_scale, *size, *grad_input.shape))
