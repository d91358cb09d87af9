"""The published accuracies, to show beside one's own."""

from __future__ import annotations

import csv
from importlib.resources import files

from sapool.grammar import parse
from sapool.recipes.reading import flat
from sapool.recipes.settings import Recipe

# The settings of the published STL-10 runs; the architecture, the image size and the number of epochs vary.
_SETTINGS = {
    "data.name": "stl10",
    "optimizer.name": "sgd",
    "optimizer.lr": 0.01,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "step",
    "schedule.milestones": [0.6, 0.8, 0.9],
    "schedule.gamma": 0.2,
    "schedule.warmup_epochs": 0.0,
    "train.batch_size": 8,
    "train.accumulate": 1,
    "train.steps_per_epoch": None,
    "train.label_smoothing": 0.0,
    "train.seed": 0,
    "train.ema": None,
    "data.randaugment": 0,
    "data.mixup": 0.0,
    "data.cutmix": 0.0,
    "weights": None,
}
PRACTICE = "best epoch chosen on the test set, one seed"


def table() -> dict[tuple[str, int, int], float]:
    """Best test accuracy by (canonical architecture, image size, epochs)."""
    text = files("sapool.recipes").joinpath("stl10.csv").read_text(encoding="utf-8")
    return {
        # The logs number epochs from 0 and tell the last one.
        (str(parse(row["architecture"])), int(row["image_size"]), int(row["epochs"]) + 1): float(
            row["best_test_accuracy"]
        )
        for row in csv.DictReader(text.splitlines())
    }


def published_accuracy(recipe: Recipe) -> float | None:
    """The authors' best test accuracy for a run of these settings, or None where they published none."""
    settings = flat(recipe)
    processes = recipe.train.devices * recipe.train.nodes
    if processes != 1 or any(settings[name] != value for name, value in _SETTINGS.items()):
        return None
    return table().get((recipe.architecture, recipe.data.image_size, recipe.train.epochs))
