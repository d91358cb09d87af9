"""Confusion matrices, drawn: of each true class, which part was taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

NAMED = 40
"""Beyond so many classes numbers and names would be a grey smear."""


def draw_confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Figure:
    """A matrix whose rows are in percent of their class, with nothing where there is nothing.

    Args:
        counts: a row a true class, a column a predicted one.
        classes: names.
        title: above it.
    """
    table = np.asarray(counts, dtype=float)
    share = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    few = len(classes) <= NAMED
    side = min(max(5.0, 0.55 * len(classes)), 24.0)
    figure = Figure(figsize=(side + 1.4, side + 0.9), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(np.ma.masked_equal(share, 0), cmap="Blues", vmin=0, vmax=100)
    if few:
        images = table.sum(1).astype(int)
        axes.set_xticks(range(len(classes)), classes, rotation=0 if max(map(len, classes)) < 4 else 90)
        axes.set_yticks(range(len(classes)), [f"{name}  ({n})" for name, n in zip(classes, images, strict=True)])
        for row, column in zip(*np.nonzero(table), strict=True):
            value = share[row, column]
            text = f"{value:.0f}" if value >= 1 else "<1"
            axes.text(column, row, text, ha="center", va="center", color="white" if value > 55 else "black")
        # Lines between the cells: a blank one is a cell too.
        axes.set_xticks(np.arange(len(classes) - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(len(classes) - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="0.88", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (images)" if few else "true class")
    axes.set_title(title, fontsize=10)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, aspect=30)
    bar.set_label("% of the true class")
    return figure
