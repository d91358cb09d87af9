"""`sapoolc heatmap`: where a run's model looks. One sheet an image: every pool's weights, and Grad-CAM."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.classify.history import save_figure
from sapool.cli.tables import console
from sapool.errors import InputError, RecipeError, did_you_mean
from sapool.ir.site import Site
from sapool.model import CompiledModel
from sapool.runs.folder import model_of
from sapool.runs.images import read_pictures

COLUMNS = 4
SMALLEST_MAP = 4
_PROBE = "grad_cam_target"


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes:
        title: above it.
        map: (S, S), what is laid over the image; None for the image alone.
        note: written over the image where there is no map to show.
    """

    title: str
    map: np.ndarray | None = None
    note: str = ""


def heatmap(
    path: str | Path, images: Sequence[str], *, label: str | None = None, output: str | Path | None = None
) -> int:
    """Writes a sheet of maps for each image.

    Args:
        path: the run's folder.
        images: files.
        label: the true class of all of them; None to take the name of each image's folder where it is a class.
        output: where the sheets go; None for `heatmaps` in the run.

    Raises:
        InputError: no run, no checkpoint, no such class, or an image that can't be read.
    """
    model, recipe, classes, epoch = model_of(path)
    if label is not None and label not in classes:
        raise InputError(f"no class '{label}' in this run." + did_you_mean(label, classes))
    seen, x = read_pictures(images, recipe.data)
    folder = Path(output) if output is not None else Path(path) / "heatmaps"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"{folder} can't be made: {error.strerror}") from None
    names = _names([Path(image) for image in images])
    for number, image in enumerate(images):
        parent = Path(image).resolve().parent.name
        true = label if label is not None else parent if parent in classes else None
        panels = sheet(model, x[number : number + 1], classes, true)
        chosen = "chosen on the test set" if recipe.select == "test" else "chosen on held-out images"
        title = f"{recipe.architecture}\nepoch {epoch}, {chosen}"
        file = folder / names[number]
        save_figure(draw(seen[number], [Panel(Path(image).name), *panels], title), file)
        console().print(str(file), markup=False)
    return 0


def sheet(model: CompiledModel, x: Tensor, classes: Sequence[str], true: str | None) -> list[Panel]:
    """The maps of one image: weights by site in order of execution, then Grad-CAM.

    Args:
        model: in evaluation mode.
        x: the image, normalised, (1, 3, S, S).
        classes: names.
        true: the image's class, or None where it isn't known.
    """
    maps, logits = pool_weights(model, x)
    panels = []
    for site in model.plan.sites:
        if site.module not in maps:
            continue
        weight = maps[site.module]
        mean = None if weight is None else weight.mean(1, keepdim=True)
        panels.append(pool_panel(site, mean, (x.shape[-1], x.shape[-1])))
    probabilities = logits.softmax(1)[0]
    predicted = int(probabilities.argmax())
    wanted = [("predicted", predicted)] if true is None else [("true", classes.index(true)), ("predicted", predicted)]
    for role, index in wanted:
        cam, where = grad_cam(model, x, index)
        said = f"{role}: {classes[index]} ({float(probabilities[index]):.2f})"
        if cam is None:
            panels.append(Panel(f"Grad-CAM at {where}\n{said}", note="nothing speaks\nfor this class"))
        else:
            panels.append(Panel(f"Grad-CAM at {where}\n{said}", cam))
    return panels


@torch.no_grad()
def pool_weights(model: CompiledModel, x: Tensor) -> tuple[dict[str, Tensor | None], Tensor]:
    """The weights (1, C, H, W) that each pool gives its map, None where its kind has none; and the logits."""
    found: dict[str, Tensor | None] = {}

    def note(path: str):  # type: ignore[no-untyped-def]
        def hook(pool: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            weigh = getattr(pool, "weight", None)
            found[path] = weigh(arguments[0]) if callable(weigh) else None

        return hook

    present = dict(model.named_modules())  # where only some feature maps are wanted, not every pool is
    paths = [site.module for site in model.plan.sites if site.action == "pool" and site.module in present]
    handles = [model.get_submodule(path).register_forward_pre_hook(note(path)) for path in paths]
    try:
        return found, model(x)
    finally:
        for handle in handles:
            handle.remove()


def grad_cam(model: CompiledModel, x: Tensor, index: int) -> tuple[np.ndarray | None, str]:
    """Grad-CAM (Selvaraju et al., ICCV 2017) of one class, (S, S) from 0 to 1, and the name of the map it is taken at.

    That is the deepest one of at least 4 × 4 pixels: a map of one pixel has no places to tell apart. None where no
    channel speaks for the class.
    """
    probed, where = _with_probe(model, x.shape[-1])
    with GradCAM(model=probed, target_layers=[probed.get_submodule(_PROBE)]) as cam:
        heat = cam(input_tensor=x, targets=[ClassifierOutputTarget(index)])[0]
    return (heat if np.isfinite(heat).all() and heat.max() > 0 else None), where


def _with_probe(model: CompiledModel, size: int) -> tuple[CompiledModel, str]:
    """A copy of the model whose chosen feature map passes through a module that Grad-CAM can hook."""
    sides = {feature.name: size // int(feature.reduction) for feature in model.feature_info}
    nodes = dict(model.plan.features)
    fitting = [name for name in nodes if sides.get(name, 0) >= SMALLEST_MAP]
    name = fitting[-1] if fitting else next(iter(nodes))
    probed = copy.deepcopy(model)
    probed.add_module(_PROBE, nn.Identity())
    node = next(node for node in probed.graph.nodes if node.name == nodes[name])
    with probed.graph.inserting_after(node):
        probe = probed.graph.call_module(_PROBE, (node,))
    node.replace_all_uses_with(probe, delete_user_cb=lambda user: user is not probe)
    probed.recompile()
    return probed, f"{name}, {sides[name]}x{sides[name]}"


def pool_panel(site: Site, mean: Tensor | None, size: tuple[int, int]) -> Panel:
    """The panel of a pool: the mean of its weights over channels, (1, 1, h, w), or None where its kind has none.

    Args:
        site: the pool's.
        mean: on any scale; the panel's title gives it.
        size: height and width of the image.
    """
    name = f"{site.name}: {site.pool.kind if site.pool else site.action}"
    if mean is None:
        return Panel(name, note="this pooling\nhas no weights")
    title = f"{name}, {mean.shape[-2]}x{mean.shape[-1]}\nweight {_span(mean)}"
    return Panel(title, _enlarge(mean, size))


def _enlarge(weight: Tensor, size: tuple[int, int]) -> np.ndarray:
    """(1, 1, h, w) to (H, W) from 0 (least) to 1 (most)."""
    large = F.interpolate(weight, size=size, mode="bilinear", align_corners=False)[0, 0]
    spread = large.max() - large.min()
    scaled: np.ndarray = ((large - large.min()) / spread if spread > 0 else torch.zeros_like(large)).numpy()
    return scaled


def _span(weight: Tensor) -> str:
    return f"{float(weight.min()):.3g} to {float(weight.max()):.3g}"


def draw(image: Tensor, panels: Sequence[Panel], title: str) -> Figure:
    """A contact sheet: panels of one size in rows, each labelled, with one scale for all.

    Args:
        image: uint8, (3, S, S).
        panels: in reading order.
        title: above all.
    """
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(2.9 * columns + 1.0, 3.4 * lines + 0.7), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    picture = image.permute(1, 2, 0).numpy()
    shown = None
    for axis in axes.flat:
        axis.axis("off")
    for axis, panel in zip(axes.flat, panels, strict=False):
        axis.imshow(picture if panel.map is None else _grey(picture), cmap="gray", vmin=0, vmax=255)
        if panel.map is not None:
            shown = axis.imshow(panel.map, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
        if panel.note:
            box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none"}
            axis.text(0.5, 0.5, panel.note, transform=axis.transAxes, ha="center", va="center", fontsize=9, bbox=box)
        axis.set_title(_shortened(panel.title), fontsize=9)
    if shown is not None:
        bar = figure.colorbar(shown, ax=axes, ticks=[0, 1], shrink=0.6, aspect=30)
        bar.ax.set_yticklabels(["least", "most"])
        bar.set_label("within each panel")
    figure.suptitle(title, fontsize=10)
    return figure


def _grey(picture: np.ndarray) -> np.ndarray:
    grey: np.ndarray = picture.mean(axis=2)
    return grey


def _shortened(title: str, width: int = 38) -> str:
    """Lines no longer than a panel is wide."""
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in title.splitlines())


def _names(images: Sequence[Path]) -> list[str]:
    """A file name for each sheet; images of one name in different folders are told apart by a number."""
    stems = [image.stem for image in images]
    return [f"{stem}.png" if stems.count(stem) == 1 else f"{stem}-{n + 1}.png" for n, stem in enumerate(stems)]
