"""Where a detector's model looks: every pool's weights over an image and the boxes found in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from sapool.boxes.drawing import drawn
from sapool.detectors.boxes import find_boxes
from sapool.detectors.pyramid import Levels
from sapool.model import pools_of
from sapool.poolings.weights import recording
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.channels import shown
from sapool.runs.images import read_image
from sapool.runs.outputs import file_names, make_folder, save_figure
from sapool.runs.protocol import Run
from sapool.runs.results import Heatmaps
from sapool.runs.sheets import Panel, draw, pool_panel


def heatmap(run: Run[DetectionRecipe, nn.Module], images: Sequence[str], threshold: float, folder: Path) -> Heatmaps:
    """Writes a sheet of maps for each image.

    Args:
        run: whose model looks.
        images: files.
        threshold: the lowest score of a box that is drawn.
        folder: where the sheets go.

    Raises:
        InputError: an image that can't be read, or a folder that can't be made.
    """
    pictures = [read_image(image, run.recipe.model.in_chans) for image in images]
    make_folder(folder)
    title = f"{run.recipe.architecture} in torchvision's {run.recipe.detector.base}\nepoch {run.epoch}"
    files = tuple(folder / name for name in file_names(images))
    for name, picture, file in zip(images, pictures, files, strict=True):
        boxes = next(find_boxes(run.model, [picture], run.classes, threshold))
        image = drawn(shown(picture), boxes, run.classes, legend=False)
        panels = _panels(run.model, picture, (image.shape[-2], image.shape[-1]))
        save_figure(draw(image, [Panel(Path(name).name), *panels], title), file)
    return Heatmaps(files)


def _panels(model: Any, picture: Tensor, size: tuple[int, int]) -> list[Panel]:
    """A panel for each pool that the detector's network has, of what was inside the image alone."""
    levels = model.backbone
    assert isinstance(levels, Levels)
    body, device = levels.body, next(model.parameters()).device
    x = TF.to_dtype(picture, torch.float32, scale=True).to(device)
    with torch.inference_mode(), recording(pools_of(body, body.plan)) as maps:
        prepared, _ = model.transform([x])
        body(prepared.tensors)
    height, width = prepared.image_sizes[0]
    panels = []
    for site in body.plan.sites:
        if site.name not in maps:
            continue
        weight, mean = maps[site.name], None
        if weight is not None:
            cells = zip((height, width), weight.shape[2:], prepared.tensors.shape[2:], strict=True)
            rows, columns = (-(-n * count // whole) for n, count, whole in cells)
            mean = weight.mean(1, keepdim=True)[..., :rows, :columns].cpu()
        panels.append(pool_panel(site, mean, size))
    return panels
