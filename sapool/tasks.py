"""The tasks that a recipe can be of: which one, training it, and opening what was trained. No torch before that."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sapool.recipes.reading import AnyRecipe, DetectionRecipe, Recipe
from sapool.runs.folder import RunFolder, recipe_of
from sapool.runs.machine import check_machine
from sapool.runs.progress import Progress
from sapool.runs.protocol import Run
from sapool.runs.results import DryRun, Fit


@dataclass(frozen=True)
class Task:
    """One task, whose engine is imported when it is put to work.

    Attributes:
        name: of what it trains.
        recipe: the kind of recipe that is its own.
        room: the package that implements `sapool.runs.protocol`.
        engine: of a detector's recipe, whose it is; "" where there is one only.
    """

    name: str
    recipe: type[AnyRecipe]
    room: str
    engine: str = ""

    def fit(self, recipe: AnyRecipe, folder: RunFolder, progress: Progress | None = None) -> Fit:
        """Trains what a recipe describes.

        Args:
            recipe: of this task.
            folder: where the run is kept.
            progress: what hears of it meanwhile.

        Raises:
            InputError: the folder, the model, the data or the checkpoint can't be used. Nothing has been written then.
            WorkError: the loss is no number, or the disk is full. What was saved before is kept.
        """
        check_machine(recipe, resume=folder.resumed)
        result: Fit = self._load("fit", "fit")(recipe, folder, progress or Progress())
        return result

    def dry_run(self, recipe: AnyRecipe) -> DryRun:
        """Builds what a recipe describes and tries it on a few batches; writes nothing.

        Raises:
            InputError: the model or the data can't be made.
            WorkError: it doesn't run, or its loss is no number.
        """
        check_machine(recipe)
        result: DryRun = self._load("dry_run", "dry_run")(recipe)
        return result

    def open_run(self, path: Path, recipe: AnyRecipe) -> Run[Any, Any]:
        """Opens the best model of a run of this task.

        Raises:
            InputError: it has no checkpoint, or one that doesn't fit.
        """
        result: Run[Any, Any] = self._load("run", "open_run")(path, recipe)
        return result

    def _load(self, module: str, function: str) -> Any:
        return getattr(import_module(f"{self.room}.{module}"), function)


TASKS = (
    Task("classification", Recipe, "sapool.classify"),
    Task("detection", DetectionRecipe, "sapool.detect", "mmdet"),
    Task("detection", DetectionRecipe, "sapool.detectors", "torchvision"),
)


def task_of(recipe: AnyRecipe) -> Task:
    """The task that a recipe is of."""
    engine = recipe.detector.engine if isinstance(recipe, DetectionRecipe) else ""
    return next(task for task in TASKS if isinstance(recipe, task.recipe) and task.engine == engine)


def fit(
    recipe: AnyRecipe, where: str | Path | None = None, *, resume: bool = False, progress: Progress | None = None
) -> Fit:
    """Trains what a recipe describes, in a folder of its own.

    Args:
        recipe: what to train, from `sapool.recipes.reading.read_recipe`.
        where: the run's folder; None for a new one under `runs`.
        resume: go on with the run in `where` from its last checkpoint.
        progress: what hears of it meanwhile; None for silence.

    Raises:
        InputError, WorkError: as `Task.fit`.
    """
    return task_of(recipe).fit(recipe, RunFolder.choose(recipe, where, resume=resume), progress)


def dry_run(recipe: AnyRecipe) -> DryRun:
    """Builds what a recipe describes and tries it on a few batches, as `Task.dry_run`."""
    return task_of(recipe).dry_run(recipe)


def open_run(path: str | Path) -> Run[Any, Any]:
    """Opens the best model of a run, of whatever task.

    Args:
        path: the run's folder.

    Returns:
        What has `recipe`, `classes`, `epoch`, `model`, and the methods `predict`, `evaluate` and `heatmap`.

    Raises:
        InputError: there is no run, or it has no checkpoint, or one that doesn't fit.
    """
    recipe = recipe_of(path)
    return task_of(recipe).open_run(Path(path), recipe)
