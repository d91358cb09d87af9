"""`torchvision_detector`: a compiled network in one of torchvision's detectors, its numbers derived from measured maps.

Anchors belong to strides: torchvision's own sizes are those of its ResNet, whose levels have strides 4 (or 8) to 64 (or
128), so that a size is so many cells of its level. A network with other strides gets as many cells, of its own levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from sapool.boxes.maps import choose_outputs
from sapool.compiler import Weights, execute
from sapool.compiler import compile as compile_network
from sapool.detectors.pyramid import NORM, Levels, Pyramid, Tail
from sapool.errors import InputError, did_you_mean
from sapool.ir.options import Dialect
from sapool.ir.plan import Plan
from sapool.model import CompiledModel
from sapool.passes.measure import Feature
from sapool.recipes.detection import TORCHVISION

_PYRAMID_CHANNELS = 256
_TAIL = (512, 256, 256, 128)  # channels behind the network's maps, Sandler et al., CVPR 2018, section 6.2
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_RATIOS = (0.5, 1.0, 2.0)
_FCOS_GROUPS = 32  # of its heads' group norms
_GREY = (0.449, 0.226)  # their means, for images of other channels
FINEST_SCALE = 14.0
"""Of a region's side, the part that is a cell of its level: Lin et al., CVPR 2017, equation 1, puts 224 pixels on the
level of stride 16."""


class CellsOfRegions:
    """Which level a region is taken from: the coarsest of whose cells at least 14 go into its side, else the finest.

    With strides that double from level to level it is torchvision's `LevelMapper`; that one knows no others.
    """

    def __init__(self, strides: Sequence[float]) -> None:
        self.strides = tuple(strides)

    def __call__(self, boxes: list[Tensor]) -> Tensor:
        """The level, int64 (K,), of each of K boxes: a list of (n, 4) with corners x1, y1, x2, y2 in pixels."""
        every = torch.cat(boxes)
        side = ((every[:, 2] - every[:, 0]) * (every[:, 3] - every[:, 1])).clamp(min=0).sqrt()
        edges = torch.tensor(self.strides[1:], dtype=side.dtype, device=side.device) * FINEST_SCALE
        return torch.bucketize(side * (1 + 1e-6), edges, right=True)


class _Foreground:
    """Keeps heads of independent classes from finding the background: labels begin with 1."""

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        things = {**head_outputs, "cls_logits": [logits[..., 1:] for logits in head_outputs["cls_logits"]]}
        found: list[dict[str, Tensor]] = super().postprocess_detections(things, anchors, image_shapes)  # type: ignore[misc]
        return [{**boxes, "labels": boxes["labels"] + 1} for boxes in found]


class _RetinaNet(_Foreground, RetinaNet):  # type: ignore[misc]
    """torchvision's, with labels from 1."""


class _FCOS(_Foreground, FCOS):  # type: ignore[misc]
    """torchvision's, with labels from 1."""


def torchvision_detector(
    kind: str,
    architecture: str | Plan,
    num_classes: int,
    *,
    weights: Weights | None = None,
    dialect: Dialect = "torchvision",
    image_size: int | tuple[int, int] = 320,
    in_chans: int = 3,
    out_indices: Sequence[int] | None = None,
    stages_only: bool = False,
    channels: int = _PYRAMID_CHANNELS,
    frozen_stages: int = -1,
    norm_eval: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """A detector of torchvision's on a compiled network.

    It takes what torchvision's take: a list of images (C, H, W) from 0 to 1, in training with `targets`, a dict each
    with `boxes` (K, 4) in pixels and `labels` (K,) from 1 on (0 is the background); it returns losses in training and
    `boxes`, `scores`, `labels` otherwise. Images are resized into `image_size` inside; SSDLite's to that size.

    Args:
        kind: `faster_rcnn`, `retinanet`, `fcos` or `ssdlite`.
        architecture: a string, or a plan.
        num_classes: classes of things, without the background.
        weights, dialect: as for `sapool.compile`.
        image_size: side of images, or (height, width).
        in_chans: channels of images.
        out_indices: which maps feed the detector, from 0; None for the deepest of each size, as many as it takes.
        stages_only: without `out_indices`, leave a last convolution behind the stages out of the choice.
        channels: of the feature pyramid's levels; SSDLite has none.
        frozen_stages: -1 trains everything; 0 freezes the stem, k the first k stages and their pools too.
        norm_eval: the network's batch norms keep their statistics while training.
        mean, std: of the images' channels; ImageNet's, or for other channels than three their means.

    Raises:
        InputError: no such detector, or the architecture, an index or a size isn't possible.
    """
    if kind not in TORCHVISION:
        raise InputError(
            f"no detector '{kind}': expected one of {', '.join(TORCHVISION)}." + did_you_mean(kind, TORCHVISION)
        )
    if num_classes < 1:
        raise InputError(f"num_classes: a detector tells at least one class from the background, not {num_classes}")
    if channels < 1 or (kind == "fcos" and channels % _FCOS_GROUPS):
        raise InputError(
            f"channels: expected a positive number, for FCOS one that {_FCOS_GROUPS} divides, not {channels}"
        )
    size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
    options = {"image_size": size, "in_chans": in_chans, "features_only": True}
    make = _maker(architecture, dialect, options)
    with torch.device("meta"):
        features = make(None, None).feature_info
    sizes = {f.reduction for f in features if not stages_only or f.name.startswith("stage")}
    count = len(out_indices) if out_indices is not None else min(TORCHVISION[kind], len(sizes))
    text = architecture if isinstance(architecture, str) else architecture.architecture
    indices = choose_outputs(features, count, out_indices, text, stages_only=stages_only, who=kind)
    chosen = [features[index] for index in indices]
    levels = _levels(kind, make(weights, indices), chosen, size, channels)
    levels.keep(frozen_stages, norm_eval=norm_eval)
    strides = [float(feature.reduction) for feature in chosen]
    # Each level behind the network's own halves the one before.
    strides += [strides[-1] * 2 ** (n + 1) for n in range(1 if kind == "faster_rcnn" else 2)]
    own, spread = _IMAGENET if in_chans == 3 else ([_GREY[0]] * in_chans, [_GREY[1]] * in_chans)
    settings: dict[str, Any] = {"image_mean": list(mean or own), "image_std": list(std or spread)}
    if kind == "ssdlite":
        return _ssdlite(levels, num_classes + 1, size, settings)
    settings |= {"min_size": min(size), "max_size": max(size)}
    # Padded so that the strides of the network's maps are exact.
    settings["size_divisible"] = math.ceil(max(feature.reduction for feature in chosen))
    return {"faster_rcnn": _faster_rcnn, "retinanet": _retinanet, "fcos": _fcos}[kind](
        levels, num_classes + 1, strides, settings
    )


def _maker(
    architecture: str | Plan, dialect: Dialect, options: dict[str, Any]
) -> Callable[[Weights | None, Sequence[int] | None], CompiledModel]:
    """What compiles the network with the maps of some indices; of all for None."""

    def make(weights: Weights | None, indices: Sequence[int] | None) -> CompiledModel:
        wanted = {**options, "out_indices": None if indices is None else tuple(indices)}
        if isinstance(architecture, str):
            return compile_network(architecture, weights=weights, dialect=dialect, **wanted)
        return execute(architecture.with_options(**wanted), weights=weights)

    return make


def _levels(kind: str, body: CompiledModel, chosen: Sequence[Feature], size: tuple[int, int], channels: int) -> Levels:
    widths = [int(feature.channels) for feature in chosen]
    if kind != "ssdlite":
        extra: ExtraFPNBlock = LastLevelMaxPool() if kind == "faster_rcnn" else LastLevelP6P7(channels, channels)
        return Pyramid(body, widths, channels, extra)
    side = min(size) / chosen[-1].reduction
    # Behind a map of one pixel there is nothing smaller.
    return Tail(body, widths, _TAIL[: min(max(math.ceil(math.log2(max(side, 1))), 1), len(_TAIL))])


def _anchors(strides: Sequence[float], cells: Sequence[float], ratios: Sequence[float]) -> AnchorGenerator:
    """Anchors of so many cells of their level."""
    sizes = tuple(tuple(stride * cell for cell in cells) for stride in strides)
    return AnchorGenerator(sizes, (tuple(ratios),) * len(sizes))


def _faster_rcnn(levels: Levels, classes: int, strides: Sequence[float], settings: dict[str, Any]) -> nn.Module:
    """Ren et al., NeurIPS 2015, on a pyramid; anchors of 8 cells as in torchvision (32 pixels at stride 4)."""
    maps = strides[:-1]  # regions aren't taken from the level that pooling adds
    pooled = MultiScaleRoIAlign([str(n) for n in range(len(maps))], output_size=7, sampling_ratio=2)
    pooled.scales, pooled.map_levels = [1 / stride for stride in maps], CellsOfRegions(maps)
    made: nn.Module = FasterRCNN(
        levels, classes, rpn_anchor_generator=_anchors(strides, (8,), _RATIOS), box_roi_pool=pooled, **settings
    )
    return made


def _retinanet(levels: Levels, classes: int, strides: Sequence[float], settings: dict[str, Any]) -> nn.Module:
    """Lin et al., ICCV 2017; anchors of 4 cells and two thirds of an octave above (32 pixels at stride 8)."""
    octave = tuple(4 * 2 ** (third / 3) for third in range(3))
    return _RetinaNet(levels, classes, anchor_generator=_anchors(strides, octave, _RATIOS), **settings)


def _fcos(levels: Levels, classes: int, strides: Sequence[float], settings: dict[str, Any]) -> nn.Module:
    """Tian et al., ICCV 2019; what torchvision calls an anchor is a cell, and the ranges of sizes follow from it."""
    return _FCOS(levels, classes, anchor_generator=_anchors(strides, (1,), (1.0,)), score_thresh=0.05, **settings)


def _ssdlite(levels: Levels, classes: int, size: tuple[int, int], settings: dict[str, Any]) -> nn.Module:
    """Sandler et al., CVPR 2018, with torchvision's settings; boxes are parts of the image."""
    assert isinstance(levels, Tail)
    boxes = DefaultBoxGenerator([[2, 3]] * len(levels.out_channels), min_ratio=0.2, max_ratio=0.95)
    head = SSDLiteHead(levels.out_channels, boxes.num_anchors_per_location(), classes, NORM)
    limits = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}
    made: nn.Module = SSD(levels, boxes, (size[1], size[0]), classes, head=head, **limits, **settings)
    return made
