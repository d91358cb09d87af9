"""Where a detector's model looks: every pool's weights over an image and the boxes found in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from sapool.boxes.drawing import drawn
from sapool.detect.boxes import find_boxes, read_pictures, red_first
from sapool.detect.engine import quiet_mmengine
from sapool.ir.site import Site
from sapool.model import pools_of
from sapool.poolings.weights import recording
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.outputs import file_names, make_folder, save_figure
from sapool.runs.protocol import Run
from sapool.runs.results import Heatmaps
from sapool.runs.sheets import Panel, draw, pool_panel

_LARGEST = 2048  # pixels, of a picture's longer side in a sheet


def heatmap(run: Run[DetectionRecipe, Any], images: Sequence[str], threshold: float, folder: Path) -> Heatmaps:
    """Writes a sheet of maps for each image.

    Args:
        run: whose model looks.
        images: files.
        threshold: the lowest score of a box that is drawn.
        folder: where the sheets go.

    Raises:
        InputError: an image that can't be read, or a folder that can't be made.
    """
    pictures = read_pictures(images)
    make_folder(folder)
    title = f"{run.recipe.architecture} in {Path(run.recipe.detector.base).stem}\nepoch {run.epoch}"
    files = tuple(folder / name for name in file_names(images))
    for name, picture, file in zip(images, pictures, files, strict=True):
        with quiet_mmengine():
            boxes = find_boxes(run.model, picture, run.classes, threshold)
            pools = _pools(run.model, picture)
        image = _smaller(drawn(red_first(picture), boxes, run.classes, legend=False))
        height, width = image.shape[1:]
        maps = (pool_panel(site, mean, (height, width)) for site, mean in pools)
        save_figure(draw(image, [Panel(Path(name).name), *maps], title), file)
    return Heatmaps(files)


def _smaller(image: Tensor) -> Tensor:
    """A picture of a size for a panel: uint8 (3, H, W) to the same."""
    side = max(image.shape[1:])
    if side <= _LARGEST:
        return image
    height, width = (max(1, edge * _LARGEST // side) for edge in image.shape[1:])
    smaller: Tensor = TF.resize(image, [height, width], antialias=True)
    return smaller


def _pools(model: Any, picture: np.ndarray) -> list[tuple[Site, Tensor | None]]:
    """Each pool's site and the mean of its weights, (1, 1, h, w), without what was padded; None where it has none."""
    steps = [{"type": "mmdet.LoadImageFromNDArray"}, *get_test_pipeline_cfg(model.cfg)[1:]]
    data = Compose(steps)({"img": picture, "img_id": 0})
    height, width = data["inputs"].shape[1:]
    batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
    x = model.data_preprocessor(batch, False)["inputs"]
    with torch.no_grad(), recording(pools_of(model.backbone, model.backbone.plan)) as maps:
        model.backbone(x)
    found: list[tuple[Site, Tensor | None]] = []
    for site in model.backbone.plan.sites:
        if site.name not in maps:
            continue
        weight, mean = maps[site.name], None
        if weight is not None:
            cells = zip((height, width), weight.shape[2:], x.shape[2:], strict=True)
            rows, columns = (-(-n * count // whole) for n, count, whole in cells)
            mean = weight.mean(1, keepdim=True)[..., :rows, :columns].cpu()
        found.append((site, mean))
    return found
