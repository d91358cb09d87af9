"""A dry run: everything is built, two batches go each way, and time is estimated. Nothing is written."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from sapool.classify.data.module import DataModule
from sapool.classify.lightning_module import Classification
from sapool.classify.run import build, make_trainer, quiet
from sapool.cli.tables import console, count, show_findings, show_summary
from sapool.cost.comparison import compare as assess
from sapool.cost.diagnostics import diagnose, unacknowledged
from sapool.recipes.settings import Recipe


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


def dry_run(recipe: Recipe) -> int:
    """Builds what a recipe describes, runs two batches of training and of validation, and prints cost and time.

    The second batch is timed; the first one warms up.

    Raises:
        InputError: the model or the data can't be made.
        WorkError: the loss is no number.
    """
    quiet()
    L.seed_everything(recipe.train.seed, workers=False, verbose=False)
    data = DataModule(recipe)
    model = build(recipe, len(data.classes))
    out = console()
    assessed = assess(model)
    show_summary(out, model, assessed)
    show_findings(out, unacknowledged(diagnose(model, assessed), recipe.acknowledge))
    watch = Stopwatch()
    trainer = make_trainer(recipe, None, [watch])
    trainer.fit(Classification(model, recipe), datamodule=data)
    steps, checks = len(data.train_dataloader()), len(data.val_dataloader())
    epoch = steps * watch.training + checks * watch.validation
    out.print(
        f"\n{recipe.data.name}: {count(len(data.train))} training images, {count(len(data.selection))} that select "
        f"({'the test set' if recipe.select == 'test' else 'held out'}), {count(len(data.test))} test images, "
        f"{len(data.classes)} classes\n"
        f"a training batch of {recipe.train.batch_size} took {watch.training:.2f} s, one of validation "
        f"{watch.validation:.2f} s\n"
        f"estimate: {_span(epoch)} an epoch ({count(steps)} batches), {_span(epoch * recipe.train.epochs)} for "
        f"{recipe.train.epochs} epochs on this machine\n"
        "dry run: nothing was written",
        markup=False,
    )
    return 0


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
