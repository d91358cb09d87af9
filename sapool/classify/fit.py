"""A classifier's run from its recipe to its summary. The loop, the loggers and the checkpoints are Lightning's.

Beside `recipe.toml` and `summary.json` a run's folder holds:

* `last.ckpt`: Lightning's checkpoint, to resume from; `best.ckpt`: the same, of the epoch with the best accuracy on the
  images that select;
* `model.pt`: the best epoch's model, for `sapool.load`;
* `metrics.csv`: a row an epoch, written when it ends; `logs/` has every step, each start's own part, and what
  other loggers write;
* `curves.png`: loss, accuracy, and how evenly the pools weigh, over the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from sapool.classify import curves
from sapool.classify.data.module import DataModule
from sapool.classify.module import SELECTION_NAMES, Classification, build_model
from sapool.classify.published import PRACTICE, compare_with_published
from sapool.cost.comparison import Comparison, compare
from sapool.diagnostics import diagnose, unacknowledged
from sapool.errors import visible
from sapool.model import CompiledModel, pools_of
from sapool.model_file import save
from sapool.recipes.settings import Recipe
from sapool.runs.folder import RunFolder, is_main
from sapool.runs.outputs import save_json
from sapool.runs.process.signals import Heeding
from sapool.runs.progress import Progress
from sapool.runs.results import Fit
from sapool.training.callbacks import CheckpointCallback, UniformityMonitor, stopping
from sapool.training.checkpoints import BEST, LAST, best_checkpoint, last_checkpoint, load_into
from sapool.training.reporting import Reporter
from sapool.training.temperature import fold_temperature
from sapool.training.trainer import check_accelerator, make_trainer, quiet_lightning


class ClassifierFit(Fit):
    """A classifier's training; its rows say where the test set chose the epoch."""

    def _rows(self) -> tuple[tuple[str, str], ...]:
        if self.summary["select"] != "test":
            return super()._rows()
        return tuple(
            (f"{name} (selected on test)" if name.startswith("test ") else name, value)
            for name, value in super()._rows()
        )


@dataclass(frozen=True)
class _Training:
    """What is trained, and by what."""

    module: Classification
    data: DataModule
    trainer: L.Trainer
    best: ModelCheckpoint
    reporter: Reporter


def fit(recipe: Recipe, folder: RunFolder, progress: Progress) -> Fit:
    """Trains what a recipe describes, or goes on from the folder's last checkpoint, exactly.

    Args:
        recipe: what to train.
        folder: where the run is kept.
        progress: what hears of it meanwhile.

    Raises:
        InputError: the folder, the model, the data or the checkpoint can't be used. Nothing has been written then.
        WorkError: the loss is no number, or the disk is full. What was saved before is kept.
    """
    path, progress = folder.path, progress if is_main() else Progress()
    with folder.held(progress), quiet_lightning(), folder.announced():
        last = last_checkpoint(path, recipe) if folder.resumed else None
        check_accelerator(recipe.train)
        L.seed_everything(recipe.train.seed, workers=False, verbose=False)
        data = DataModule(recipe)
        model = build_model(recipe, len(data.classes), last=last)
        cost = compare(model)
        if is_main():
            folder.begin(recipe)
            _announce(recipe, path, model, cost, progress)
        reporter = Reporter(progress, path)
        heeding = Heeding()
        checkpoints = CheckpointCallback(
            path,
            recipe,
            data.classes,
            heeding,
            accumulate=recipe.train.accumulate,
            every=recipe.train.checkpoint_every,
        )
        best = ModelCheckpoint(
            path,
            Path(BEST).stem,
            monitor=f"{SELECTION_NAMES[recipe.select]}_accuracy",
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        callbacks = [reporter, best, checkpoints, UniformityMonitor(pools_of(model, model.plan))]
        first_step = last["global_step"] if last else 0
        trainer = make_trainer(recipe.train, path, callbacks, first_step=first_step)
        resumed, last = None if last is None else path / LAST, None  # which holds as much memory as the weights
        training = _Training(Classification(model, recipe), data, trainer, best, reporter)
        with heeding.installed(), stopping(checkpoints, path):
            trainer.fit(training.module, datamodule=data, ckpt_path=resumed, weights_only=True)
        heeding.disarm()
        # One that came behind the last checkpoint has been noted as well.
        if (stopped := checkpoints.stopped or heeding.wanted) is not None:
            if is_main():
                _write_history(recipe, path)
            saved = checkpoints.path if checkpoints.path.exists() else None
            return ClassifierFit(path, stopped=stopped, checkpoint=saved)
        return ClassifierFit(path, _finish(recipe, path, training, cost))


def _announce(recipe: Recipe, path: Path, model: CompiledModel, cost: Comparison, progress: Progress) -> None:
    """Says what is trained."""
    if model.transfer is not None:
        progress.started(f"weights: {model.transfer}")
    parameters = sum(p.numel() for p in model.parameters())
    progress.started(f"{recipe.architecture}: {parameters:,} parameters; run in {visible(str(path))}")
    if recipe.select == "test":
        progress.started("select = test: epochs are chosen on the test set, so its accuracy flatters")
    progress.diagnosed(unacknowledged(diagnose(model, cost), recipe.acknowledge))


def _write_history(recipe: Recipe, path: Path) -> None:
    curves.plot(recipe, path)


def _finish(recipe: Recipe, path: Path, training: _Training, cost: Comparison) -> dict[str, Any]:
    """Tests the best epoch's weights and writes what is known of the run; returns its summary."""
    module, data, trainer = training.module, training.data, training.trainer
    seconds = training.reporter.watch.total
    content = best_checkpoint(path, recipe)
    load_into(module.model, content, path / BEST)
    trainer.loggers = []  # the test isn't a row of the metrics
    tested = trainer.test(module, datamodule=data, verbose=False)[0]
    if not is_main():
        return {}
    _write_history(recipe, path)
    fold_temperature(module.model)
    save(module.model, path / "model.pt")
    assert training.best.best_model_score is not None
    summary: dict[str, Any] = {
        "architecture": recipe.architecture,
        "data": recipe.data.name,
        "classes": len(data.classes),
        "epochs": recipe.train.epochs,
        "best_epoch": content["epoch"] + 1,
        **({"pruned": True} if module.model.origin.shapes else {}),
        "select": recipe.select,
        f"{SELECTION_NAMES[recipe.select]}_accuracy": round(training.best.best_model_score.item(), 6),
        "test_accuracy": round(tested["test_accuracy"], 6),
        "test_loss": round(tested["test_loss"], 6),
        "test_is": "of the epoch that is best on the test set itself"
        if recipe.select == "test"
        else "of the epoch that is best on held-out training images",
        "training_seconds": round(seconds, 1),
        **cost.figures(),
    }
    published = compare_with_published(recipe)
    if published is not None and not published.differences:
        summary |= {"published_test_accuracy": published.row.accuracy, "published_is": PRACTICE}
    elif published is not None:
        summary |= {"published_otherwise": published.row.accuracy, "published_differs": list(published.differences)}
    save_json(summary, path / "summary.json")
    return summary
