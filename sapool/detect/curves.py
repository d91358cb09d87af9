"""The learning curves of a detector's run, from what mmengine logged in each of its starts."""

from __future__ import annotations

import json
from pathlib import Path

from sapool.runs.curves import Chart, Line, draw_curves
from sapool.runs.outputs import save_figure

_AP = {"coco/bbox_mAP": "AP, IoU 0.50 to 0.95", "coco/bbox_mAP_50": "AP at IoU 0.50"}


def plot(folder: Path, title: str, steps: int) -> None:
    """Writes `curves.png`: the loss over the steps, and average precision of the validation images.

    Args:
        folder: the run's.
        title: above the plots.
        steps: of an epoch.
    """
    losses, measured = _logged(folder)
    loss = Line("training", sorted(losses.items()))
    precision = [
        Line(said, [(epoch * steps, row[name]) for epoch, row in sorted(measured.items()) if row.get(name, -1) >= 0], n)
        for n, (name, said) in enumerate(_AP.items(), start=1)
    ]
    chosen = max(precision[0].points, key=lambda point: point[1], default=None)
    best = None if chosen is None else (chosen[0], f"best epoch: {round(chosen[0] / steps)}")
    charts = [Chart("loss", [loss]), Chart("AP on validation images", precision)]
    save_figure(draw_curves(title, charts, best), folder / "curves.png")


def _logged(folder: Path) -> tuple[dict[float, float], dict[float, dict[str, float]]]:
    """Losses by step, and measurements by epoch; a later start's take the place of those that it did again."""
    losses: dict[float, float] = {}
    measured: dict[float, dict[str, float]] = {}
    for file in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last line of a killed process
            if "loss" in row:
                losses[row["step"]] = row["loss"]
            elif "coco/bbox_mAP" in row:
                measured[row["step"]] = row
    return losses, measured
