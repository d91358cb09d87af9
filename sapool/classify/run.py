"""A run from its recipe to its summary."""

from __future__ import annotations

import errno
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.profilers import SimpleProfiler

from sapool import model_file as checkpoint
from sapool.classify import history
from sapool.classify.callbacks import EpochLines, Randomness, Saving, Temperature
from sapool.classify.checkpoint_io import Storage, unwritable
from sapool.classify.data.module import DataModule
from sapool.classify.fold import fold_temperature
from sapool.classify.lightning_module import SELECTION_NAMES, Classification
from sapool.classify.published import PRACTICE, compare_with_published
from sapool.classify.sync_norm import CPUSync
from sapool.cli.tables import console, count, show_findings, show_table
from sapool.compiler import compile
from sapool.cost.diagnostics import diagnose, unacknowledged
from sapool.model import CompiledModel
from sapool.recipes.reading import to_toml
from sapool.recipes.settings import Recipe
from sapool.runs import folder
from sapool.weights.atomic import write_text


def run(recipe: Recipe, where: str | Path | None = None, *, resume: bool = False) -> int:
    """Trains what a recipe describes; returns the exit code: 0, or 130 or 143 where a signal ended it.

    What the run's folder holds is in `sapool.runs.folder`.

    Args:
        recipe: what to train.
        where: the run's folder; None for a new one under `runs`.
        resume: go on with the run in `where` from its last checkpoint, exactly.

    Raises:
        InputError: the folder, the model, the data or the checkpoint can't be used. Nothing has been written then.
        WorkError: the loss is no number, or the disk is full. What was saved before is kept.
    """
    quiet()
    path = folder.choose(where, recipe.title)
    if resume and folder.has_run(path):
        folder.check_same(recipe, path)
    last = folder.checkpoint_to_resume(path, recipe) if resume else None
    L.seed_everything(recipe.train.seed, workers=False, verbose=False)
    data = DataModule(recipe)
    model = build(recipe, len(data.classes), resuming=last is not None)
    if folder.is_main():
        _begin(recipe, path, model, resume)
    saving = Saving(path, recipe, data.classes)
    best = ModelCheckpoint(
        path,
        "best",
        monitor=f"{SELECTION_NAMES[recipe.select]}_accuracy",
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = make_trainer(recipe, path, [best, saving], first_step=_step_of(last))
    task = Classification(model, recipe)
    started = time.monotonic()
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    except (SystemExit, KeyboardInterrupt):
        if saving.stopped is None:
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise unwritable(path / "last.ckpt", error) from None
        raise
    if saving.stopped is not None:
        return _stopped(path, recipe, saving)
    return _finish(recipe, path, task, trainer, data, best, time.monotonic() - started)


def _begin(recipe: Recipe, path: Path, model: CompiledModel, resume: bool) -> None:
    """Makes the run's folder, or tidies that of a killed run, and says what is trained."""
    if resume and folder.has_run(path):
        folder.clean(path)
    else:
        folder.make(path)
        write_text(path / "recipe.toml", to_toml(recipe))
    out = console()
    if model.transfer is not None:
        out.print(f"weights: {model.transfer}", markup=False)
    parameters = sum(p.numel() for p in model.parameters())
    out.print(f"{recipe.architecture}: {count(parameters)} parameters; run in {path}", markup=False)
    if recipe.select == "test":
        out.print("select = test: epochs are chosen on the test set, so its accuracy flatters")
    show_findings(out, unacknowledged(diagnose(model), recipe.acknowledge))


def build(recipe: Recipe, classes: int, *, resuming: bool = False) -> CompiledModel:
    """The recipe's model; its weights come from the checkpoint where a run is resumed."""
    model = compile(
        recipe.architecture,
        num_classes=classes,
        dialect=recipe.dialect,
        weights=None if resuming else recipe.weights,
        image_size=recipe.data.image_size,
    )
    if recipe.train.channels_last:
        model.to(memory_format=torch.channels_last)
    return model


def make_trainer(recipe: Recipe, path: Path | None, keeping: list[Callback], *, first_step: int = 0) -> L.Trainer:
    """Lightning's trainer as the recipe wants it; without a folder one that keeps nothing and runs two batches."""
    settings = recipe.train
    terminal = console().is_terminal
    callbacks: list[Callback] = [Randomness(settings.seed), *keeping]
    if settings.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=settings.ema))
    if settings.temperature_epochs:
        callbacks.append(Temperature(settings.temperature_epochs))
    many = settings.processes > 1 or settings.strategy != "auto"
    on_cpu = settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available())
    own_sync = settings.sync_batchnorm and many and on_cpu
    plugins: list[Any] = [Storage(), *([CPUSync()] if own_sync else [])]
    kept: dict[str, Any] = {"fast_dev_run": 2}
    if path is not None:
        callbacks += [LearningRateMonitor("step"), RichProgressBar() if terminal else EpochLines()]
        loggers = [
            CSVLogger(path / "logs", name="csv"),
            # What was logged after the checkpoint that is resumed isn't shown twice.
            TensorBoardLogger(path / "logs", name="tensorboard", version="", purge_step=first_step or None),
        ]
        profiler = SimpleProfiler(path, "profile") if settings.profile else None
        kept = {"logger": loggers, "max_epochs": settings.epochs, "profiler": profiler, "default_root_dir": path}
    return L.Trainer(
        accelerator=settings.accelerator,
        # Numbers are GPUs'; on the CPU there are as many processes.
        devices=settings.processes // settings.nodes if on_cpu else _listed(settings.devices),
        num_nodes=settings.nodes,
        strategy=settings.strategy,
        precision=settings.precision,
        sync_batchnorm=settings.sync_batchnorm and many and not on_cpu,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip_norm,
        plugins=plugins,
        callbacks=callbacks,
        enable_model_summary=False,
        enable_progress_bar=terminal and path is not None,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every,
        use_distributed_sampler=False,  # the data module has its own
        **kept,
    )


def _listed(devices: int | tuple[int, ...]) -> int | list[int]:
    return devices if isinstance(devices, int) else list(devices)


def _step_of(last: Path | None) -> int:
    if last is None:
        return 0
    return int(torch.load(last, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def _stopped(path: Path, recipe: Recipe, saving: Saving) -> int:
    assert saving.stopped is not None
    if folder.is_main():
        _tell_history(path, recipe)
        out = console(stderr=True)
        what = f"saved in {saving.path}" if saving.path.exists() else "before the first checkpoint"
        out.print(f"stopped, {what}; go on with: sapoolc train --resume --run-dir {path}", markup=False)
    return 128 + saving.stopped


def _tell_history(path: Path, recipe: Recipe) -> None:
    history.write(path)
    note = "epochs chosen on the test set" if recipe.select == "test" else "epochs chosen on held-out training images"
    history.plot(path, f"{recipe.architecture} on {recipe.data.name}, {note}", SELECTION_NAMES[recipe.select])


def _finish(
    recipe: Recipe,
    path: Path,
    task: Classification,
    trainer: L.Trainer,
    data: DataModule,
    best: ModelCheckpoint,
    seconds: float,
) -> int:
    """Tests the best epoch's weights and writes what is known of the run."""
    file = path / "best.ckpt"
    content = folder.read_own(file, recipe)
    folder.load_into(task.model, content, file)
    trainer.loggers = []  # the test isn't a row of the metrics
    tested = trainer.test(task, datamodule=data, verbose=False)[0]
    if not folder.is_main():
        return 0
    _tell_history(path, recipe)
    fold_temperature(task.model)
    checkpoint.save(task.model, path / "model.pt")
    assert best.best_model_score is not None
    summary: dict[str, Any] = {
        "architecture": recipe.architecture,
        "data": recipe.data.name,
        "classes": len(data.classes),
        "epochs": recipe.train.epochs,
        "best_epoch": content["epoch"] + 1,
        "select": recipe.select,
        f"{SELECTION_NAMES[recipe.select]}_accuracy": round(best.best_model_score.item(), 6),
        "test_accuracy": round(tested["test_accuracy"], 6),
        "test_loss": round(tested["test_loss"], 6),
        "test_is": "of the epoch that is best on the test set itself"
        if recipe.select == "test"
        else "of the epoch that is best on held-out training images",
        "training_seconds": round(seconds, 1),
    }
    published = compare_with_published(recipe)
    if published is not None and not published.differences:
        summary |= {"published_test_accuracy": published.row.accuracy, "published_is": PRACTICE}
    elif published is not None:
        summary |= {"published_otherwise": published.row.accuracy, "published_differs": list(published.differences)}
    write_text(path / "summary.json", json.dumps(summary, indent=2) + "\n")
    rows = [
        (key.replace("_", " "), "; ".join(value) if isinstance(value, list) else str(value))
        for key, value in summary.items()
    ]
    if recipe.select == "test":
        rows = [(f"{name} (selected on test)" if name.startswith("test ") else name, value) for name, value in rows]
    show_table(console(), ("result", "value"), rows)
    return 0


def quiet() -> None:
    """Silences what Lightning says about itself; what it says about the run is ours to print."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*LeafSpec.*deprecated.*",
        ".*number of training batches.*smaller than the logging interval.*",
        ".*Checkpoint directory.*",
        ".*`lr_scheduler.step.*` before `optimizer.step.*",
        ".*epoch parameter in `scheduler.step.*",
        ".*GPU available but not used.*",
        ".*srun.*command is available.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    torch.set_float32_matmul_precision("high")
