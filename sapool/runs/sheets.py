"""Contact sheets: an image, and what a network's pools weigh in it, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.ir.site import Site
from sapool.model import CompiledModel

COLUMNS = 4


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes:
        title: above it.
        map: (H, W), what is laid over the image; None for the image alone.
        note: written over the image where there is no map to show.
    """

    title: str
    map: np.ndarray | None = None
    note: str = ""


@torch.no_grad()
def pool_weights(model: CompiledModel, x: Tensor) -> tuple[dict[str, Tensor | None], Tensor]:
    """The weights (1, C, H, W) that each pool gives its map, None where its kind has none; and the logits."""
    found: dict[str, Tensor | None] = {}

    def recording(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(pool: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            weigh = getattr(pool, "weight", None)
            found[path] = weigh(arguments[0]) if callable(weigh) else None

        return hook

    present = dict(model.named_modules())  # where only some feature maps are wanted, not every pool is
    paths = [site.module for site in model.plan.sites if site.action == "pool" and site.module in present]
    handles = [model.get_submodule(path).register_forward_pre_hook(recording(path)) for path in paths]
    try:
        return found, model(x)
    finally:
        for handle in handles:
            handle.remove()


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
        image: uint8, (3, H, W).
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
