"""A run: a folder with the resolved recipe, metrics and checkpoints, and the training that fills it."""

from __future__ import annotations

import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from sapool import checkpoint
from sapool.atomic import replacing, write_text
from sapool.compiler import compile
from sapool.errors import RecipeError
from sapool.report import console, count, show_table
from sapool.training.data import DataModule
from sapool.training.recipe import Recipe
from sapool.training.task import Classification
from sapool.weights import read_checkpoint


def run(recipe: Recipe, folder: str | Path | None = None) -> int:
    """Trains what a recipe describes; returns the exit code.

    The run's folder holds `recipe.toml` (every setting resolved), `metrics.csv`, `best.ckpt` and `last.ckpt`
    (Lightning's), `model.pt` (the best epoch's weights, for `sapool.load`) and `summary.json`.

    Raises:
        RecipeError: the folder can't be used.
        InputError: the model or the data can't be made. Nothing has been written then.
    """
    _quiet()
    out = console()
    L.seed_everything(recipe.train.seed, workers=True, verbose=False)
    data = DataModule(recipe)
    model = compile(
        recipe.architecture,
        num_classes=len(data.classes),
        dialect=recipe.dialect,
        weights=recipe.weights,
        image_size=recipe.data.image_size,
    )
    if model.transfer is not None:
        out.print(f"weights: {model.transfer}", markup=False)
    where = make_folder(folder or Path("runs") / f"{recipe.title}-{time.strftime('%Y%m%d-%H%M%S')}")
    write_text(where / "recipe.toml", recipe.to_toml())
    parameters = sum(p.numel() for p in model.parameters())
    out.print(f"{recipe.architecture}: {count(parameters)} parameters; run in {where}", markup=False)
    task = Classification(model, recipe)
    best = ModelCheckpoint(
        where, "best", monitor="val_accuracy", mode="max", save_last=True, enable_version_counter=False
    )
    trainer = L.Trainer(
        accelerator=recipe.train.accelerator,
        devices=1,
        max_epochs=recipe.train.epochs,
        precision=recipe.train.precision,
        logger=CSVLogger(where.parent, name=where.name, version=""),
        callbacks=[best, LearningRateMonitor("epoch"), RichProgressBar() if out.is_terminal else EpochLines()],
        enable_model_summary=False,
        enable_progress_bar=out.is_terminal,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    started = time.monotonic()
    trainer.fit(task, datamodule=data)
    if trainer.interrupted:
        return 130
    return _finish(recipe, where, task, trainer, data, best, time.monotonic() - started)


def _finish(
    recipe: Recipe,
    where: Path,
    task: Classification,
    trainer: L.Trainer,
    data: DataModule,
    best: ModelCheckpoint,
    seconds: float,
) -> int:
    """Tests the best epoch's weights and writes what is known of the run."""
    content = read_checkpoint(best.best_model_path)
    task.load_state_dict(content["state_dict"])
    trainer.logger = None  # the test isn't a row of the metrics
    tested = trainer.test(task, datamodule=data, verbose=False)[0]
    checkpoint.save(task.model, where / "model.pt")
    assert best.best_model_score is not None
    summary: dict[str, Any] = {
        "architecture": recipe.architecture,
        "epochs": recipe.train.epochs,
        "best_epoch": content["epoch"] + 1,
        "val_accuracy": round(best.best_model_score.item(), 6),
        "test_accuracy": round(tested["test_accuracy"], 6),
        "test_loss": round(tested["test_loss"], 6),
        "selected_on": "val",
        "training_seconds": round(seconds, 1),
    }
    with replacing(where / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    show_table(console(), ("result", "value"), [(key.replace("_", " "), str(value)) for key, value in summary.items()])
    return 0


def make_folder(path: str | Path) -> Path:
    """A new folder for a run.

    Raises:
        RecipeError: it can't be made, or there is something in it.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RecipeError(f"the run directory {folder} isn't empty; choose another with --run-dir")
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecipeError(
            f"the run directory {folder} can't be used: {error.strerror}; choose another with --run-dir"
        ) from None
    return folder


class EpochLines(Callback):
    """One line an epoch, where there is no terminal to draw a progress bar on."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the epoch's metrics."""
        shown = [
            f"{name.replace('_', ' ')} {float(value):.4f}" for name, value in sorted(trainer.callback_metrics.items())
        ]
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  " + "  ".join(shown), flush=True)  # noqa: T201


def _quiet() -> None:
    """Silences what Lightning says about itself; what it says about the run is ours to print."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated.*")
    torch.set_float32_matmul_precision("high")
