"""Contact sheets: an image, and what a network's pools weigh in it, side by side and on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from sapool.ir.site import Site
from sapool.poolings.weights import PRACTICALLY, spread

COLUMNS = 4
AROUND = 0.25
"""The scale of weights reaches at least that far from their mean."""
WEIGHTS, EVIDENCE = "inferno", "viridis"
"""Colours of weights, and of Grad-CAM: two things that don't compare."""


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes:
        title: above it.
        map: (H, W), what is laid over the image: weights in units of their mean; None for no map.
        note: written over the image where there is no map to show.
        evidence: the map isn't of weights but Grad-CAM, from 0 to 1.
        plain: the image is grey, because what is said of it is that nothing stands out.
    """

    title: str
    map: np.ndarray | None = None
    note: str = ""
    evidence: bool = False
    plain: bool = False


def pool_panel(site: Site, mean: Tensor | None, size: tuple[int, int]) -> Panel:
    """The panel of a pool: the mean of its weights over channels, (1, 1, h, w), or None where its kind has none.

    Args:
        site: the pool's.
        mean: on any scale; the panel's title gives it, and the map is divided by its own mean.
        size: height and width of the image.
    """
    name = f"{site.name}: {site.pool.kind if site.pool else site.action}"
    if mean is None:
        return Panel(name, note="this pooling\nhas no weights")
    name = f"{name}, {mean.shape[-2]}x{mean.shape[-1]}"
    if spread(mean) < PRACTICALLY:
        each = f"{float(mean.mean()):.3g} everywhere"
        return Panel(f"{name}\nweight {each}", note=f"practically uniform:\n{each}", plain=True)
    relative = mean / mean.abs().mean()
    title = f"{name}\nweight {_span(mean)}\n{float(relative.min()):.2f} to {float(relative.max()):.2f} of its mean"
    large = F.interpolate(relative, size=size, mode="bilinear", align_corners=False)[0, 0]
    return Panel(title, large.numpy())


def _span(weight: Tensor) -> str:
    return f"{float(weight.min()):.3g} to {float(weight.max()):.3g}"


def draw(image: Tensor, panels: Sequence[Panel], title: str) -> Figure:
    """A contact sheet: panels of one size in rows, each labelled. All maps of weights have one scale of colours.

    Args:
        image: uint8, (3, H, W).
        panels: in reading order.
        title: above all.
    """
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    height = 2.9 * min(max(image.shape[1] / image.shape[2], 0.4), 2.0)
    scale, evidence = _scale(panels), any(panel.evidence and panel.map is not None for panel in panels)
    bars = (scale is not None) + evidence
    figure = Figure(figsize=(2.9 * columns + 1.0 * bars, (height + 0.8) * lines + 0.7), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    picture = image.permute(1, 2, 0).numpy()
    look: dict[str, Any] = {"fraction": 0.2 / columns, "pad": 0.01, "aspect": 30, "shrink": 0.8}
    for axis in axes.flat:
        axis.axis("off")
    for axis, panel in zip(axes.flat, panels, strict=False):
        coloured = panel.map is None and not panel.plain
        axis.imshow(picture if coloured else _grey(picture), cmap="gray", vmin=0, vmax=255)
        if panel.map is not None:
            colours, norm = (EVIDENCE, Normalize(0, 1)) if panel.evidence else (WEIGHTS, scale)
            axis.imshow(panel.map, cmap=colours, norm=norm, alpha=0.6)
        if panel.note:
            box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none"}
            axis.text(0.5, 0.5, panel.note, transform=axis.transAxes, ha="center", va="center", fontsize=9, bbox=box)
        axis.set_title(_shortened(panel.title), fontsize=9)
    if scale is not None:
        bar = figure.colorbar(ScalarMappable(scale, WEIGHTS), ax=axes, **look)
        bar.set_label("weight / mean of its map, one scale for all panels")
    if evidence:
        bar = figure.colorbar(ScalarMappable(Normalize(0, 1), EVIDENCE), ax=axes, ticks=[0, 1], **look)
        bar.ax.set_yticklabels(["0", "most"])
        bar.set_label("Grad-CAM, of its largest value")
    figure.suptitle(title, fontsize=10)
    return figure


def _scale(panels: Sequence[Panel]) -> Normalize | None:
    """From the least to the greatest of all weights, and never so narrow that hardly any difference looks like much."""
    maps = [panel.map for panel in panels if panel.map is not None and not panel.evidence]
    if not maps:
        return None
    least, most = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    return Normalize(min(least, 1 - AROUND), max(most, 1 + AROUND))


def _grey(picture: np.ndarray) -> np.ndarray:
    grey: np.ndarray = picture.mean(axis=2)
    return grey


def _shortened(title: str, width: int = 42) -> str:
    """Lines no longer than a panel is wide."""
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in title.splitlines())
