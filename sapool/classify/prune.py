"""Pruning a classifier's run: its best model with fewer channels, trained again by the run's own recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sapool.classify.fit import fit
from sapool.classify.run import open_run
from sapool.errors import RecipeError, visible
from sapool.model_file import save
from sapool.prune.search import Pruned, prune
from sapool.prune.selection import Importance
from sapool.recipes.reading import read_recipe
from sapool.recipes.settings import Recipe
from sapool.runs.folder import RECIPE, RunFolder, recipe_of
from sapool.runs.progress import Progress
from sapool.runs.results import Fit, Result, Table

FILE = "pruned.pt"


@dataclass(frozen=True)
class Pruning(Result):
    """A pruned model in a file.

    Attributes:
        pruned: the model, and what it cost before and costs now.
        file: where it is.
    """

    pruned: Pruned
    file: Path

    def report(self) -> tuple[Table | str, ...]:
        before, after = asdict(self.pruned.before), asdict(self.pruned.after)
        names = {"parameters": "parameters", "macs": "MACs", "peak": "peak activations, bytes"}
        rows = tuple(
            (label, f"{before[name]:,}", f"{after[name]:,}", f"{after[name] / max(before[name], 1):.2f}x")
            for name, label in names.items()
        )
        return Table(("total", "before", "after", "ratio"), rows), f"pruned model in {visible(str(self.file))}"

    def as_data(self) -> dict[str, Any]:
        pruned = self.pruned
        costs = {"before": asdict(pruned.before), "after": asdict(pruned.after)}
        return {"file": str(self.file), "ratio": round(pruned.ratio, 6), **costs}


def prune_run(
    path: str | Path,
    *,
    macs: float | None = None,
    budget: int | str | None = None,
    importance: Importance = "magnitude",
    output: str | Path | None = None,
) -> Pruning:
    """Prunes the best model of a classifier's run and writes it, to be trained again.

    Args:
        path: the run's folder.
        macs, budget, importance: as for `sapool.prune.search.prune`.
        output: the file; None for `pruned.pt` in the run.

    Raises:
        InputError: there is no such run, it is a detector's, or it can't be pruned so.
    """
    folder, recipe = Path(path), recipe_of(path)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"the run in {path} is of a detector; pruning needs a classifier's")
    opened = open_run(folder, recipe)
    pruned = prune(opened.model, macs=macs, budget=budget, importance=importance)
    file = Path(output) if output is not None else folder / FILE
    save(pruned.model, file)
    return Pruning(pruned, file)


def finetune(
    path: str | Path,
    pruned: str | Path,
    where: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Fit:
    """Trains a pruned model by the recipe of the run that it comes from.

    Args:
        path: that run's folder.
        pruned: the model's file.
        where: the new run's folder; None for a new one under `runs`.
        overrides: settings that are to be otherwise, such as `optimizer.lr=0.001`.
        progress: what hears of it meanwhile.

    Raises:
        InputError, WorkError: as `sapool.tasks.fit`.
    """
    weights = f'weights="{Path(pruned).absolute()}"'
    recipe = read_recipe(str(Path(path) / RECIPE), [weights, *overrides])
    assert isinstance(recipe, Recipe)
    recipe = recipe.model_copy(update={"title": f"{Path(path).name}-pruned"})
    return fit(recipe, RunFolder.choose(recipe, where), progress or Progress())
