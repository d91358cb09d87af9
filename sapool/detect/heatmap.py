"""`sapoolc heatmap` of a detector's run: every pool's weights over an image and the boxes found in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from torch import Tensor
from torch.nn import functional as F

from sapool.detect.drawing import drawn, file_names, make_folder
from sapool.detect.open import Opened, open_run, predict_boxes, read_pictures
from sapool.detect.progress import quietly
from sapool.report import console
from sapool.training.detection import DetectionRecipe
from sapool.training.heatmap import Panel, draw, pool_weights
from sapool.training.history import save_figure


def heatmap(
    path: str | Path,
    recipe: DetectionRecipe,
    images: Sequence[str],
    *,
    threshold: float = 0.3,
    output: str | Path | None = None,
) -> int:
    """Writes a sheet of maps for each image.

    Args:
        path: the run's folder.
        recipe: its recipe.
        images: files.
        threshold: the lowest score of a box that is drawn.
        output: where the sheets go; None for `heatmaps` in the run.

    Raises:
        InputError: no checkpoint, an image that can't be read, or a folder that can't be made.
    """
    pictures = read_pictures(images)
    with quietly():
        opened = open_run(path, recipe)
        found = [predict_boxes(opened, picture, threshold) for picture in pictures]
        weights = [_weights(opened, picture) for picture in pictures]
    folder = Path(output) if output is not None else Path(path) / "heatmaps"
    make_folder(folder)
    for n, name in enumerate(file_names(images)):
        image = drawn(pictures[n], found[n], opened.classes)
        height, width = image.shape[1:]
        panels = [
            Panel(Path(images[n]).name),
            *(_panel(title, weight, (height, width)) for title, weight in weights[n]),
        ]
        title = f"{recipe.architecture} in {Path(recipe.detector.base).stem}\nepoch {opened.epoch}"
        save_figure(draw(image, panels, title), folder / name)
        console().print(str(folder / name), markup=False)
    return 0


def _weights(opened: Opened, picture: np.ndarray) -> list[tuple[str, Tensor | None]]:
    """Each pool's title and its weights (h, w), the mean over channels, where its kind has any."""
    model: Any = opened.model
    steps = get_test_pipeline_cfg(model.cfg.copy())
    steps[0] = {"type": "mmdet.LoadImageFromNDArray"}
    data = Compose(steps)({"img": picture, "img_id": 0})
    height, width = data["inputs"].shape[1:]
    batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
    x = model.data_preprocessor(batch, False)["inputs"]
    maps, _ = pool_weights(model.backbone, x)
    shown: list[tuple[str, Tensor | None]] = []
    for site in model.backbone.plan.sites:
        if site.module in maps:
            weight, title = maps[site.module], f"{site.name}: {site.kind}"
            if weight is None:
                shown.append((title, None))
                continue
            mean = weight.mean(1)[0].cpu()
            # Without what was padded.
            rows, columns = (
                -(-n * cells // whole) for n, cells, whole in zip((height, width), mean.shape, x.shape[2:], strict=True)
            )
            mean = mean[:rows, :columns]
            size = f"{mean.shape[0]}x{mean.shape[1]}"
            shown.append((f"{title}, {size}\nweight {float(mean.min()):.3g} to {float(mean.max()):.3g}", mean))
    return shown


def _panel(title: str, weight: Tensor | None, size: tuple[int, int]) -> Panel:
    if weight is None:
        return Panel(title, note="this pooling\nhas no weights")
    large = F.interpolate(weight[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    spread = large.max() - large.min()
    scaled = (large - large.min()) / spread if spread > 0 else torch.zeros_like(large)
    return Panel(title, scaled.numpy())
