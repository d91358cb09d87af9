"""Where a classifier's model looks. One sheet an image: every pool's weights, and Grad-CAM."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from sapool.classify.data import transforms
from sapool.errors import InputError, did_you_mean
from sapool.model import CompiledModel, pools_of
from sapool.poolings.weights import recording
from sapool.recipes.settings import Recipe
from sapool.runs.channels import shown
from sapool.runs.images import read_image
from sapool.runs.outputs import file_names, make_folder, save_figure
from sapool.runs.protocol import Run
from sapool.runs.results import Heatmaps
from sapool.runs.sheets import Panel, draw, pool_panel

SMALLEST_MAP = 4
_PROBE = "grad_cam_target"


def heatmap(run: Run[Recipe, CompiledModel], images: Sequence[str], label: str | None, folder: Path) -> Heatmaps:
    """Writes a sheet of maps for each image.

    Args:
        run: whose model looks.
        images: files.
        label: the true class of all of them; None to take the name of each image's folder where it is a class.
        folder: where the sheets go.

    Raises:
        InputError: no such class, an image that can't be read, or a folder that can't be made.
    """
    if label is not None and label not in run.classes:
        raise InputError(f"no class '{label}' in this run." + did_you_mean(label, run.classes))
    data = run.recipe.data
    crop, normalise = transforms.evaluation(data), transforms.normalise(data)
    pictures = [crop(read_image(image, run.recipe.model.in_chans)) for image in images]
    make_folder(folder)
    chosen = "chosen on the test set" if run.recipe.select == "test" else "chosen on held-out images"
    title = f"{run.recipe.architecture}\nepoch {run.epoch}, {chosen}"
    files = tuple(folder / name for name in file_names(images))
    for image, picture, file in zip(images, pictures, files, strict=True):
        parent = Path(image).resolve().parent.name
        true = label if label is not None else parent if parent in run.classes else None
        panels = sheet(run.model, normalise(picture[None]), run.classes, true)
        save_figure(draw(shown(picture), [Panel(Path(image).name), *panels], title), file)
    return Heatmaps(files)


def sheet(model: CompiledModel, x: Tensor, classes: Sequence[str], true: str | None) -> list[Panel]:
    """The maps of one image: weights by site in order of execution, then Grad-CAM.

    Args:
        model: in evaluation mode.
        x: the image, normalised, (1, C, H, W).
        classes: names.
        true: the image's class, or None where it isn't known.
    """
    with torch.no_grad(), recording(pools_of(model, model.plan)) as maps:
        logits = model(x)
    panels = []
    for site in model.plan.sites:
        if site.name not in maps:
            continue
        weight = maps[site.name]
        mean = None if weight is None else weight.mean(1, keepdim=True)
        panels.append(pool_panel(site, mean, (x.shape[-2], x.shape[-1])))
    probabilities = logits.softmax(1)[0]
    predicted = int(probabilities.argmax())
    roles = {predicted: "predicted"}
    if true is not None:
        index = classes.index(true)
        roles = {index: "true = predicted"} if index == predicted else {index: "true", **roles}
    for index, role in roles.items():
        cam, where = grad_cam(model, x, index)
        said = f"{role}: {classes[index]} ({float(probabilities[index]):.2f})"
        if cam is None:
            panels.append(Panel(f"Grad-CAM at {where}\n{said}", note="nothing speaks\nfor this class"))
        else:
            panels.append(Panel(f"Grad-CAM at {where}\n{said}", cam, evidence=True))
    return panels


def grad_cam(model: CompiledModel, x: Tensor, index: int) -> tuple[np.ndarray | None, str]:
    """Grad-CAM (Selvaraju et al., ICCV 2017) of one class, (H, W) from 0 to 1, and the name of the map it is taken at.

    That is the deepest one of at least 4 × 4 pixels: a map of one pixel has no places to tell apart. None where no
    channel speaks for the class.
    """
    probed, where = _with_probe(model, (x.shape[-2], x.shape[-1]))
    with GradCAM(model=probed, target_layers=[probed.get_submodule(_PROBE)]) as cam:
        heat = cam(input_tensor=x, targets=[ClassifierOutputTarget(index)])[0]
    return (heat if np.isfinite(heat).all() and heat.max() > 0 else None), where


def _with_probe(model: CompiledModel, size: tuple[int, int]) -> tuple[CompiledModel, str]:
    """A copy of the model whose chosen feature map passes through a module that Grad-CAM can hook."""
    sides = {f.name: (size[0] // int(f.reduction), size[1] // int(f.reduction)) for f in model.feature_info}
    nodes = dict(model.plan.features)
    fitting = [name for name in nodes if min(sides.get(name, (0,))) >= SMALLEST_MAP]
    name = fitting[-1] if fitting else next(iter(nodes))
    probed = copy.deepcopy(model)
    probed.add_module(_PROBE, nn.Identity())
    node = next(node for node in probed.graph.nodes if node.name == nodes[name])
    with probed.graph.inserting_after(node):
        probe = probed.graph.call_module(_PROBE, (node,))
    node.replace_all_uses_with(probe, delete_user_cb=lambda user: user is not probe)
    probed.recompile()
    return probed, f"{name}, {sides[name][0]}x{sides[name][1]}"
