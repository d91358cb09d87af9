"""A classifier's learning curves."""

from __future__ import annotations

from pathlib import Path

from sapool.classify.module import SELECTION_NAMES
from sapool.recipes.settings import Recipe
from sapool.runs.curves import Chart, Line, draw_curves
from sapool.runs.outputs import save_figure
from sapool.training import history

_QUANTITIES = {"loss": "cross-entropy", "accuracy": "top-1 accuracy"}


def plot(recipe: Recipe, folder: Path) -> None:
    """Writes a run's `curves.png`: loss, accuracy, and how evenly the pools weigh, over the steps."""
    table, selection = history.rows(folder), SELECTION_NAMES[recipe.select]
    on_test = recipe.select == "test"
    parts = {"train": "training", selection: "test set (selects the epoch)" if on_test else "held-out training images"}
    charts = []
    for what, quantity in _QUANTITIES.items():
        lines = [Line(said, history.points(table, f"{part}_{what}"), n) for n, (part, said) in enumerate(parts.items())]
        if what == "loss":
            lines.insert(0, Line("training, batches", history.points(table, "train_loss_step"), fine=True))
        charts.append(Chart(quantity, lines))
    note = "epochs chosen on the test set" if on_test else "epochs chosen on held-out training images"
    title = f"{recipe.architecture} on {recipe.data.name}, {note}"
    best = history.best_of(history.points(table, f"{selection}_accuracy"))
    save_figure(draw_curves(title, [*charts, history.uniformities(table)], best), folder / "curves.png")
