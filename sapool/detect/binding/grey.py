"""Grey images for detectors: every augmentation of mmdet sees three channels, and the network one."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from torch import Tensor

from sapool.recipes.inputs import GREY

KNOWN = ("DetDataPreprocessor", "mmdet.DetDataPreprocessor")
"""The preprocessors whose place `GreyDataPreprocessor` can take."""


@MODELS.register_module()
class GreyDataPreprocessor(DetDataPreprocessor):  # type: ignore[misc]
    """mmdet's `DetDataPreprocessor` of images (3, H, W), blue first, which become (1, H, W) by their brightness.

    Images from grey files have three equal channels until here, so that transforms which expect colours work.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        inputs = data["inputs"]
        made = brightness(inputs) if isinstance(inputs, Tensor) else [brightness(image) for image in inputs]
        prepared: dict[str, Any] = super().forward({**data, "inputs": made}, training)
        return prepared


def brightness(image: Tensor) -> Tensor:
    """Red, green and blue as grey: (..., 3, H, W), blue first, to (..., 1, H, W) of the same type, bytes rounded."""
    weights = image.new_tensor(GREY[::-1], dtype=None if image.is_floating_point() else torch.float32)
    grey = (image * weights[:, None, None]).sum(-3, keepdim=True)
    return grey if image.is_floating_point() else grey.round().to(image.dtype)
