"""The published accuracies, shown beside runs of the published setting, and otherwise with what differs from it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sapool.catalogue.backbones import BACKBONES
from sapool.grammar import parse
from sapool.recipes.reading import flat, read_recipe
from sapool.recipes.settings import Recipe

PRACTICE = "best epoch chosen on the test set, one seed"
BATCH = 8
"""Images a step, of all devices together."""

# Where a run reads, computes and writes; not what it learns from or how.
_FREE = frozenset(
    {"data.root", "data.workers", "acknowledge", "architecture"}
    | {f"train.{name}" for name in ("accelerator", "strategy", "checkpoint_every", "log_every", "logger", "profile")}
    | {f"train.{name}" for name in ("channels_last", "compile")}
)
# Compared by what they come to: images a step, and images that a batch norm sees.
_BATCHES = frozenset({"train.batch_size", "train.devices", "train.nodes", "train.sync_batchnorm"})


@dataclass(frozen=True)
class Row:
    """One of the authors' runs on STL-10.

    Attributes:
        architecture: canonical text.
        image_size: side of the images in pixels.
        epochs: that were run.
        accuracy: on the test set, of the epoch that is best on it.
        batch_norm_images: over how many images batch norms took their statistics; fewer than a step's on two devices.
    """

    architecture: str
    image_size: int
    epochs: int
    accuracy: float
    batch_norm_images: int


@dataclass(frozen=True)
class Published:
    """The authors' run that is nearest to another, and in what the two differ.

    Attributes:
        row: theirs.
        differences: sentences' parts such as "train.seed is 1, published 0"; none where the setting is theirs.
    """

    row: Row
    differences: tuple[str, ...]


@cache
def table() -> tuple[Row, ...]:
    """Every row of the authors' logs."""
    text = files("sapool.recipes").joinpath("stl10.csv").read_text(encoding="utf-8")
    return tuple(
        Row(
            architecture=str(parse(row["architecture"])),
            image_size=int(row["image_size"]),
            epochs=int(row["epochs"]),
            accuracy=float(row["best_test_accuracy"]),
            batch_norm_images=int(row["batch_norm_images"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


def compare_with_published(recipe: Recipe) -> Published | None:
    """The authors' nearest run of an architecture on its data, or None where they published none.

    Of several runs the one of the same image size is taken, then of the same number of epochs.
    """
    rows = [row for row in table() if row.architecture == recipe.architecture]
    if recipe.data.name != "stl10" or not rows:
        return None
    size, epochs = max(recipe.data.sides), recipe.train.epochs
    row = min(rows, key=lambda row: (abs(row.image_size - size), abs(row.epochs - epochs)))
    return Published(row, tuple(_differences(recipe, row)))


def published_accuracy(recipe: Recipe) -> float | None:
    """The authors' best test accuracy for a run of exactly these settings, or None where they published none."""
    found = compare_with_published(recipe)
    return found.row.accuracy if found is not None and not found.differences else None


def _differences(recipe: Recipe, row: Row) -> Iterator[str]:
    theirs = _flat_of(row.image_size, row.epochs)
    ours = flat(recipe)
    for name, value in ours.items():
        if name not in _FREE | _BATCHES and value != theirs[name] and _matters(name, recipe):
            yield f"{name} is {_said(name, value)}, published {_said(name, theirs[name])}"
    train = recipe.train
    images = train.batch_size * train.processes * train.accumulate
    if images != BATCH:
        yield f"{images} images a step, published {BATCH}"
    normed = train.batch_size * (train.processes if train.sync_batchnorm else 1)
    if normed != row.batch_norm_images:
        yield f"batch norms see {normed} images, published {row.batch_norm_images}"
    yield from _other_network(row)


@cache
def _flat_of(image_size: int, epochs: int) -> dict[str, Any]:
    """The published settings of a row; its architecture is the run's own."""
    recipe = read_recipe("stl10", [f"data.image_size={image_size}", f"train.epochs={epochs}"])
    assert isinstance(recipe, Recipe)
    return flat(recipe)


def _matters(name: str, recipe: Recipe) -> bool:
    """Whether a setting has an effect in this recipe."""
    data, optimizer, schedule = recipe.data, recipe.optimizer, recipe.schedule
    effects = {
        "data.validation": recipe.select == "val",
        "data.magnitude": data.randaugment > 0,
        "optimizer.momentum": optimizer.name == "sgd",
        "optimizer.nesterov": optimizer.name == "sgd",
        "optimizer.amsgrad": optimizer.name != "sgd",
        "schedule.milestones": schedule.name == "step",
        "schedule.gamma": schedule.name == "step",
        "schedule.warmup_start": schedule.warmup_epochs > 0,
        "schedule.min_lr": schedule.name == "cosine",
        "train.temperature_epochs": parse(recipe.architecture).dynamic,
    }
    return effects.get(name, True)


def _said(name: str, value: object) -> object:
    if value is None:
        return "none"
    return "edited" if name == "plan" else value


def _other_network(row: Row) -> Iterator[str]:
    """Where the published code reads a string otherwise than it says (semantics §5.1, §5.2)."""
    architecture = parse(row.architecture)
    prepool = architecture.prepool
    if prepool is None:
        return
    if prepool.pooling.nowin:
        yield "the published code ignores the prepool's nowin"
    if prepool.pooling.kind == "skip" and BACKBONES[architecture.backbone].pools == "last":
        yield "the published code ignores the stride of a ResNet's prepool-skip"
