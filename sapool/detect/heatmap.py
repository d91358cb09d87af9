"""`sapoolc heatmap` of a detector's run: every pool's weights over an image and the boxes found in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from torch import Tensor

from sapool.classify.heatmap import Panel, draw, pool_panel, pool_weights
from sapool.classify.history import save_figure
from sapool.cli.tables import console
from sapool.detect.drawing import drawn, file_names, make_folder
from sapool.detect.loaded import Opened, open_run, predict_boxes, read_pictures
from sapool.detect.progress import quietly
from sapool.ir.site import Site
from sapool.recipes.detection import DetectionRecipe


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
        pools = [_pools(opened, picture) for picture in pictures]
    folder = Path(output) if output is not None else Path(path) / "heatmaps"
    make_folder(folder)
    for n, name in enumerate(file_names(images)):
        image = drawn(pictures[n], found[n], opened.classes)
        height, width = image.shape[1:]
        maps = (pool_panel(site, mean, (height, width)) for site, mean in pools[n])
        panels = [Panel(Path(images[n]).name), *maps]
        title = f"{recipe.architecture} in {Path(recipe.detector.base).stem}\nepoch {opened.epoch}"
        save_figure(draw(image, panels, title), folder / name)
        console().print(str(folder / name), markup=False)
    return 0


def _pools(opened: Opened, picture: np.ndarray) -> list[tuple[Site, Tensor | None]]:
    """Each pool's site and the mean of its weights, (1, 1, h, w), without what was padded; None where it has none."""
    model: Any = opened.model
    steps = get_test_pipeline_cfg(model.cfg.copy())
    steps[0] = {"type": "mmdet.LoadImageFromNDArray"}
    data = Compose(steps)({"img": picture, "img_id": 0})
    height, width = data["inputs"].shape[1:]
    batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
    x = model.data_preprocessor(batch, False)["inputs"]
    maps, _ = pool_weights(model.backbone, x)
    found: list[tuple[Site, Tensor | None]] = []
    for site in model.backbone.plan.sites:
        if site.module not in maps:
            continue
        weight, mean = maps[site.module], None
        if weight is not None:
            cells = zip((height, width), weight.shape[2:], x.shape[2:], strict=True)
            rows, columns = (-(-n * count // whole) for n, count, whole in cells)
            mean = weight.mean(1, keepdim=True)[..., :rows, :columns].cpu()
        found.append((site, mean))
    return found
