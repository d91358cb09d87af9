"""Runs side by side: what they reached against what their networks cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sapool.cost.flops import costs, total
from sapool.cost.memory import activation_memory
from sapool.digests import read_json
from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.recipes.inputs import Sides, size_text
from sapool.recipes.reading import AnyRecipe
from sapool.recipes.settings import Recipe
from sapool.runs.folder import recipe_of
from sapool.runs.networks import USUAL_SIDE, network_of
from sapool.runs.outputs import save_figure
from sapool.runs.progress import EpochTable
from sapool.runs.results import Result, Table
from sapool.study import pareto
from sapool.study.values import number, whole_number
from sapool.training.checkpoints import best_checkpoint, narrow_like

if TYPE_CHECKING:  # studies need an extra of their own
    from sapool.study.table import StudyTable

COSTS = {"parameters": "parameters", "macs": "MACs", "peak_bytes": "peak, bytes"}
_AXES = {
    "parameters": ("parameters", pareto.count),
    "macs": ("MACs, one image", pareto.count),
    "peak_bytes": ("peak activations (int8, one image)", pareto.size),
}
ACCURACY, PRECISION = "test accuracy", "AP on validation images"


@dataclass(frozen=True)
class ComparedRun:
    """A finished run.

    Attributes:
        run: its folder's name.
        architecture, data: what was trained on what.
        image_size: side, or (height, width), in pixels.
        test_accuracy: what the epoch that was chosen reached; of a detector COCO's AP, which isn't an accuracy.
        select: what chose it, `val` or `test`; of a run that isn't finished, of which epoch its score is.
        parameters, macs, peak_bytes: of its network, for one image; of a detector's without neck and heads.
        epochs: how long it was trained.
        score: what `test_accuracy` is.
    """

    run: str
    architecture: str
    data: str
    image_size: int | Sides
    test_accuracy: float
    select: str
    parameters: int
    macs: int
    peak_bytes: int
    epochs: int | None = None
    score: str = ACCURACY


@dataclass(frozen=True)
class Comparison(Result):
    """Runs, in the order in which they were named.

    Attributes:
        runs: them, each once.
        said: what is to be told of some of them, a note each.
    """

    runs: tuple[ComparedRun, ...]
    said: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether all runs have the same data, and chose their epochs on the same images."""
        return len({(run.data, run.select, run.score) for run in self.runs}) <= 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What makes these runs unequal, a sentence each."""
        said = list(self.said)
        if not self.comparable:
            said.append("note: these runs differ in data or in what chose their epoch; their accuracies don't compare")
        if len(sizes := {size_text(run.image_size): None for run in self.runs}) > 1:
            said.append(f"note: these runs saw images of different sizes ({', '.join(sizes)} pixels)")
        if len(epochs := {str(run.epochs): None for run in self.runs}) > 1:
            said.append(f"note: these runs were trained for different numbers of epochs ({', '.join(epochs)})")
        if any(run.score == PRECISION for run in self.runs):
            said.append("note: costs of detectors are those of the network, without neck and heads")
        return tuple(said)

    def report(self) -> tuple[Table | str, ...]:
        scores = {run.score: None for run in self.runs}
        reached = next(iter(scores)) if len(scores) == 1 else "score"
        heads = ("run", "architecture", "data", "size", "epochs", reached, "epoch chosen on", *COSTS.values())
        rows = tuple(
            (run.run, run.architecture, run.data, size_text(run.image_size), str(run.epochs or "-"),
             f"{run.test_accuracy:.4f}", run.select, *(f"{getattr(run, name):,}" for name in COSTS))
            for run in self.runs
        )  # fmt: skip
        table = Table(heads, rows, spare=("parameters", "size", "epochs", "data"))
        return (table, "costs are of one image, the peak of activations in int8", *self.notes)

    def as_data(self) -> list[dict[str, Any]]:
        return [asdict(run) for run in self.runs]

    def plot(self, path: str | Path) -> None:
        """Writes a PNG of what was reached against parameters, MACs and peak activation memory.

        Raises:
            InputError: the file can't be written.
        """
        points = []
        for run in self.runs:
            on_test = run.select == "test"
            says = f"{run.run}: {run.architecture}{' (epoch chosen on test)' if on_test else ''}"
            cost = {name: float(getattr(run, name)) for name in COSTS}
            points.append(pareto.Point(run.run, says, run.test_accuracy, cost, hollow=on_test))
        scores = {run.score: None for run in self.runs}
        notes = [note.removeprefix("note: ") for note in self.notes]
        save_figure(pareto.draw(points, _AXES, " or ".join(scores), notes), Path(path))


def compare(paths: Sequence[str | Path]) -> Comparison:
    """Reads what runs have reached, and measures what their networks cost.

    Args:
        paths: the runs' folders; one that is named twice counts once.

    Raises:
        InputError: a folder holds no run, or one that can't be compared yet.
    """
    once: dict[Path, Path] = {}
    for path in map(Path, paths):
        once.setdefault(path.resolve(), path)
    runs = tuple(_read(path) for path in once.values())
    said = [f"note: {run.run} isn't finished: its accuracy is of {run.select}" for run in runs if "epoch" in run.select]
    if len(once) < len(paths):
        said.append(f"note: {len(paths) - len(once)} of the runs were named twice and count once")
    return Comparison(runs, tuple(said))


def plot_study(table: StudyTable, path: str | Path) -> bool:
    """Writes a PNG of a study's combinations, averages over seeds against costs; False where nothing is done yet.

    Raises:
        InputError: the file can't be written.
    """
    axes = {"parameters": _AXES["parameters"], "macs": _AXES["macs"], "arena_bytes": ("arena (int8)", pareto.size)}
    points = []
    for row in table.rows:
        if row.mean is None or not all(name in row.costs for name in axes):
            continue
        name = " ".join(str(row.axes[axis]) for axis in table.axes)
        spread = "" if row.std is None else f" ± {row.std:.4f}"
        says = f"{name}: {row.mean:.4f}{spread}, n = {row.n}"
        points.append(pareto.Point(name, says, row.mean, {axis: float(row.costs[axis]) for axis in axes}))
    if points:
        save_figure(pareto.draw(points, axes, table.score.replace("_", " ")), Path(path))
    return bool(points)


def _read(folder: Path) -> ComparedRun:
    recipe = recipe_of(folder)
    classifies = isinstance(recipe, Recipe)
    select: str = recipe.select if isinstance(recipe, Recipe) else "val"
    try:
        summary = read_json(folder / "summary.json")
        reached = number(summary["test_accuracy" if classifies else "bbox_mAP"])
        classes, epochs = whole_number(summary["classes"]), summary.get("epochs")
        epochs = None if epochs is None else whole_number(epochs)
    except FileNotFoundError:
        if not isinstance(recipe, Recipe):
            raise InputError(
                f"the run in {folder} isn't finished: there is no summary.json; sapoolc train --resume --run-dir "
                f"{folder}"
            ) from None
        content = best_checkpoint(folder, recipe)
        epoch, classes, epochs = content["epoch"] + 1, len(content["sapool"]["classes"]), recipe.train.epochs
        summary = {"pruned": bool(content["sapool"].get("shapes"))}
        reached, select = _so_far(folder, epoch), f"{_IMAGES[recipe.select]}, epoch {epoch} of {epochs}"
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / 'summary.json'} is damaged; sapoolc train --resume writes it again") from None
    model, size = _network(recipe, folder, classes, pruned=bool(summary.get("pruned")))
    whole = total(costs(model, model.plan))
    return ComparedRun(
        run=folder.name,
        architecture=recipe.architecture,
        data=recipe.data.name,
        image_size=size,
        test_accuracy=reached,
        select=select,
        parameters=whole.parameters,
        macs=whole.macs,
        peak_bytes=activation_memory(model, model.plan).peak,
        epochs=epochs,
        score=ACCURACY if classifies else PRECISION,
    )


def _network(recipe: AnyRecipe, folder: Path, classes: int, *, pruned: bool) -> tuple[CompiledModel, int | Sides]:
    """A run's network without data, and the size of its images."""
    model = network_of(recipe, classes if isinstance(recipe, Recipe) else None)
    if pruned and isinstance(recipe, Recipe):
        with torch.device("meta"):
            narrow_like(model, best_checkpoint(folder, recipe))
    return model, recipe.data.image_size or USUAL_SIDE


# What chooses an epoch, of a run that isn't finished.
_IMAGES = {"val": "held-out images", "test": "test images"}


def _so_far(folder: Path, epoch: int) -> float:
    """The accuracy of an epoch on the images that choose it, as the table of epochs has it."""
    for row in EpochTable(folder).rows():
        found = [value for name, value in row.items() if name in ("val_accuracy", "selected_on_test_accuracy")]
        if row["epoch"] == str(epoch) and found:
            return float(found[0])
    raise InputError(f"the run in {folder} isn't finished, and {folder / 'metrics.csv'} has nothing of epoch {epoch}")
