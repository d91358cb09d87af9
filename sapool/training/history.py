"""What a run logged, over all its starts: one table, and the learning curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from sapool.runs.outputs import save_figure
from sapool.weights.atomic import write_text

Row = dict[str, float]


def rows(folder: Path) -> list[Row]:
    """Everything logged, in order of steps.

    Each start of a run logs to a part of its own. What a part has from its first step on takes the place of what
    earlier parts logged there: those steps were lost with a kill, and done again.
    """
    merged: list[Row] = []
    for part in _parts(folder):
        new = _read(part)
        if new:
            first = min(row["step"] for row in new)
            merged = [row for row in merged if row["step"] < first] + new
    return merged


def write(folder: Path) -> None:
    """Writes `metrics.csv`, the parts merged."""
    merged = rows(folder)
    columns = ["epoch", "step", *sorted({key for row in merged for key in row} - {"epoch", "step"})]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: int(v) if k in ("epoch", "step") else v for k, v in row.items()} for row in merged)
    write_text(folder / "metrics.csv", text.getvalue())


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "logs" / "csv").glob("version_*"), key=lambda part: int(part.name.removeprefix("version_")))


def _read(part: Path) -> list[Row]:
    file = part / "metrics.csv"
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        found = []
        for line in csv.DictReader(lines):
            try:
                found.append({key: float(value) for key, value in line.items() if key and value})
            except (TypeError, ValueError):
                continue  # the last line of a killed process
        return [row for row in found if "step" in row]


def series(table: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one metric."""
    chosen = [(row["step"], row[name]) for row in table if name in row]
    return [step for step, _ in chosen], [value for _, value in chosen]


def plot(folder: Path, title: str, selection: str) -> None:
    """Writes `curves.png`: loss and accuracy of training and of the images that select.

    Args:
        folder: the run's.
        title: above the plots.
        selection: how metrics of the selecting images are called.
    """
    table = rows(folder)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    labels = {
        "train": "training",
        "val": "held-out training images",
        "selected_on_test": "test set (selects the epoch)",
    }
    for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
        if what == "loss":
            axis.plot(
                *series(table, "train_loss_step"), color="C0", alpha=0.3, linewidth=0.8, label="training, batches"
            )
        for colour, part in (("C0", "train"), ("C1", selection)):
            steps, values = series(table, f"{part}_{what}")
            axis.plot(steps, values, color=colour, marker="o", markersize=3, label=labels[part])
        axis.set_xlabel("step")
        axis.set_ylabel("cross-entropy" if what == "loss" else "top-1 accuracy")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    save_figure(figure, folder / "curves.png")
