"""A run of a detector of torchvision's, from its recipe to its summary. Loop, loggers and checkpoints are Lightning's.

Beside `recipe.toml` and `summary.json` a run's folder holds `last.ckpt` (to resume from), `best.ckpt` (of the epoch
with the best AP on the validation images), `metrics.csv` with `logs/`, and `curves.png`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from sapool.detectors.data import BoxModule
from sapool.detectors.module import BEST as METRIC
from sapool.detectors.module import PART, Detection, build_model, measured_every, trainer_settings
from sapool.detectors.pyramid import Levels
from sapool.model import pools_of
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.curves import Chart, Line, draw_curves
from sapool.runs.folder import RunFolder
from sapool.runs.outputs import save_figure, save_json
from sapool.runs.process.signals import Heeding
from sapool.runs.progress import Progress
from sapool.runs.results import Fit
from sapool.training import history
from sapool.training.callbacks import CheckpointCallback, UniformityMonitor, stopping
from sapool.training.checkpoints import BEST, LAST, best_checkpoint, last_checkpoint
from sapool.training.reporting import Reporter
from sapool.training.trainer import make_trainer, quiet_lightning


def fit(recipe: DetectionRecipe, folder: RunFolder, progress: Progress) -> Fit:
    """Trains what a recipe describes, or goes on from the folder's last checkpoint, exactly.

    Args:
        recipe: what to train.
        folder: where the run is kept.
        progress: what hears of it meanwhile.

    Raises:
        InputError: the folder, the model, the data or the checkpoint can't be used. Nothing has been written then.
        WorkError: the loss is no number, or the disk is full. What was saved before is kept.
    """
    path, settings = folder.path, trainer_settings(recipe)
    with folder.held(progress), quiet_lightning(), folder.announced():
        last = last_checkpoint(path, recipe) if folder.resumed else None
        L.seed_everything(recipe.train.seed, workers=False, verbose=False)
        data = BoxModule(recipe)
        classes = data.dataset.classes
        model = build_model(recipe, len(classes), last=last is not None)
        folder.begin(recipe)
        progress.started(_opening(recipe, data, model, path))
        heeding = Heeding()
        checkpoints = CheckpointCallback(path, recipe, classes, heeding, accumulate=settings.accumulate, every=None)
        # An epoch that isn't measured has no figure to choose it by.
        best = ModelCheckpoint(
            path,
            Path(BEST).stem,
            monitor=METRIC,
            mode="max",
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        levels = model.backbone
        assert isinstance(levels, Levels)
        reporter = Reporter(progress, path)
        monitor = UniformityMonitor(pools_of(levels.body, levels.body.plan))
        first_step = last["global_step"] if last else 0
        trainer = make_trainer(
            settings,
            path,
            [reporter, best, checkpoints, monitor],
            first_step=first_step,
            validate_every=measured_every(recipe),
        )
        resumed, last = None if last is None else path / LAST, None
        module = Detection(model, recipe)
        with heeding.installed(), stopping(checkpoints, path):
            trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
        heeding.disarm()
        _write_history(recipe, path)
        # One that came behind the last checkpoint has been noted as well.
        if (stopped := checkpoints.stopped or heeding.wanted) is not None:
            saved = checkpoints.path if checkpoints.path.exists() else None
            return Fit(path, stopped=stopped, checkpoint=saved)
        return Fit(path, _finish(recipe, path, module, data, trainer, reporter.watch.total))


def _opening(recipe: DetectionRecipe, data: BoxModule, model: nn.Module, path: Path) -> str:
    levels = model.backbone
    assert isinstance(levels, Levels)
    maps = ", ".join(f"{f.name} ({f.channels} channels, 1/{f.reduction})" for f in levels.body.feature_info)
    return (
        f"{recipe.architecture} in torchvision's {recipe.detector.base}: {maps}\n"
        f"{recipe.data.name}: {len(data.train):,} training images, {len(data.val):,} validation images, "
        f"{len(data.dataset.classes)} classes; run in {path}"
    )


def _write_history(recipe: DetectionRecipe, path: Path) -> None:
    table = history.rows(path)
    precision = history.points(table, METRIC)
    losses = [
        Line("training, batches", history.points(table, "train_loss_step"), fine=True),
        Line("training", history.points(table, "train_loss")),
    ]
    measured = [
        Line("AP, IoU 0.50 to 0.95", precision, 1),
        Line("AP at IoU 0.50", history.points(table, f"{METRIC}_50"), 2),
    ]
    charts = [Chart("loss", losses), Chart("AP on validation images", measured), history.uniformities(table)]
    title = f"{recipe.architecture} in torchvision's {recipe.detector.base} on {recipe.data.name}"
    best = history.best_of(precision, measured_every(recipe))
    save_figure(draw_curves(title, charts, best), path / "curves.png")


def _finish(
    recipe: DetectionRecipe, path: Path, module: Detection, data: BoxModule, trainer: L.Trainer, seconds: float
) -> dict[str, Any]:
    """Writes the best epoch's figures; returns the summary."""
    summary: dict[str, Any] = {
        "architecture": recipe.architecture,
        "detector": f"torchvision {recipe.detector.base}",
        "data": recipe.data.name,
        "classes": len(data.dataset.classes),
        "epochs": recipe.train.epochs,
    }
    if (path / BEST).exists():
        content = best_checkpoint(path, recipe)
        module.load_state_dict(content["state_dict"])
        trainer.loggers = []  # measuring it again isn't a row of the metrics
        trainer.validate(module, datamodule=data, verbose=False)
        summary["best_epoch"] = content["epoch"] + 1
        summary |= {name: value for name, value in module.figures().items() if value is not None}
        summary[f"{PART}_is"] = "of the epoch that is best on the validation images, which are those measured"
    summary["training_seconds"] = round(seconds, 1)
    save_json(summary, path / "summary.json")
    return summary
