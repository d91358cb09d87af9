"""A dry run of a classifier: everything is built, two batches go each way, time is estimated, nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from sapool.classify.data.module import DataModule
from sapool.classify.module import Classification, build_model
from sapool.cost.comparison import compare
from sapool.diagnostics import diagnose, unacknowledged
from sapool.recipes.settings import Recipe
from sapool.runs.results import DryRun, Table
from sapool.training.trainer import check_accelerator, make_dry_trainer, quiet_lightning


@dataclass(frozen=True, kw_only=True)
class ClassifierDryRun(DryRun):
    """A classifier's recipe, tried.

    Attributes:
        recipe: it.
        validation_seconds: that a batch of validation takes.
        validation_steps: such batches in an epoch.
        images: how many train, select the epoch, and test.
        classes: how many.
    """

    recipe: Recipe
    validation_seconds: float
    validation_steps: int
    images: tuple[int, int, int]
    classes: int

    @property
    def epoch_seconds(self) -> float:
        """Estimated for an epoch, validation included."""
        return self.steps * self.seconds + self.validation_steps * self.validation_seconds

    def report(self) -> tuple[Table | str, ...]:
        train, selection, test = self.images
        selecting = "the test set" if self.recipe.select == "test" else "held out"
        epoch, whole = _span(self.epoch_seconds), _span(self.epoch_seconds * self.epochs)
        return (
            f"{self.recipe.data.name}: {train:,} training images, {selection:,} that select ({selecting}), "
            f"{test:,} test images, {self.classes} classes\n"
            f"a training batch of {self.recipe.train.batch_size} took {self.seconds:.2f} s, one of validation "
            f"{self.validation_seconds:.2f} s\n"
            f"estimate: {epoch} an epoch ({self.steps:,} batches), {whole} for {self.epochs} epochs on this machine",
        )

    def as_data(self) -> dict[str, Any]:
        return {
            "images": dict(zip(("training", "selection", "test"), self.images, strict=True)),
            "classes": self.classes,
            "batches": self.steps,
            "epochs": self.epochs,
            "training_batch_seconds": self.seconds,
            "validation_batch_seconds": self.validation_seconds,
            "epoch_seconds": self.epoch_seconds,
        }


class Stopwatch(Callback):
    """How long the last batch took, in training and in validation, with its loading; in seconds."""

    def __init__(self) -> None:
        self.training = self.validation = 0.0
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.monotonic()

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        self.training, self._since = time.monotonic() - self._since, time.monotonic()

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        self.validation, self._since = time.monotonic() - self._since, time.monotonic()


def dry_run(recipe: Recipe) -> ClassifierDryRun:
    """Builds what a recipe describes, and runs two batches of training and of validation.

    The second batch is timed; the first one warms up.

    Raises:
        InputError: the model or the data can't be made.
        WorkError: the loss is no number.
    """
    watch = Stopwatch()
    with quiet_lightning():
        check_accelerator(recipe.train)
        L.seed_everything(recipe.train.seed, workers=False, verbose=False)
        data = DataModule(recipe)
        model = build_model(recipe, len(data.classes))
        cost = compare(model)
        diagnostics = unacknowledged(diagnose(model, cost), recipe.acknowledge)
        make_dry_trainer(recipe.train, [watch]).fit(Classification(model, recipe), datamodule=data)
        return ClassifierDryRun(
            seconds=watch.training,
            steps=len(data.train_dataloader()),
            epochs=recipe.train.epochs,
            model=model,
            cost=cost,
            diagnostics=tuple(diagnostics),
            recipe=recipe,
            validation_seconds=watch.validation,
            validation_steps=len(data.val_dataloader()),
            images=(len(data.train), len(data.selection), len(data.test)),
            classes=len(data.classes),
        )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
