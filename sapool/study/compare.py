"""Runs side by side: accuracy against cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from sapool.cost.flops import costs, total
from sapool.cost.memory import activation_memory
from sapool.errors import InputError, RecipeError
from sapool.recipes.inputs import Sides, size_text
from sapool.recipes.settings import Recipe
from sapool.runs.folder import recipe_of
from sapool.runs.networks import compile_network
from sapool.runs.outputs import save_figure
from sapool.runs.results import Result, Table
from sapool.training.checkpoints import best_checkpoint, narrow_like

COSTS = {"parameters": "parameters", "macs": "MACs", "peak_bytes": "peak activations, bytes (int8, one image)"}


@dataclass(frozen=True)
class ComparedRun:
    """A finished run of a classifier.

    Attributes:
        run: its folder's name.
        architecture, data, image_size: what was trained on what.
        test_accuracy: of the epoch that was chosen.
        select: what chose it, `val` or `test`.
        parameters, macs, peak_bytes: of its network, for one image.
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


@dataclass(frozen=True)
class Comparison(Result):
    """Runs, in the order in which they were named."""

    runs: tuple[ComparedRun, ...]

    @property
    def comparable(self) -> bool:
        """Whether all runs have the same data, and chose their epochs on the same images."""
        return len({(run.data, run.select) for run in self.runs}) <= 1

    def report(self) -> tuple[Table | str, ...]:
        heads = ("run", "architecture", "data", "size", "test accuracy", "epoch chosen on", *COSTS.values())
        rows = tuple(
            (run.run, run.architecture, run.data, size_text(run.image_size), f"{run.test_accuracy:.4f}", run.select,
             *(f"{getattr(run, name):,}" for name in COSTS))
            for run in self.runs
        )  # fmt: skip
        note = "note: these runs differ in data or in what chose their epoch; their accuracies don't compare"
        return (Table(heads, rows), *(() if self.comparable else (note,)))

    def as_data(self) -> list[dict[str, Any]]:
        return [asdict(run) for run in self.runs]

    def plot(self, path: str | Path) -> None:
        """Writes a PNG of accuracy against parameters, MACs and peak activation memory.

        Raises:
            InputError: the file can't be written.
        """
        save_figure(_figure(self.runs), Path(path))


def compare(paths: Sequence[str | Path]) -> Comparison:
    """Reads what finished runs have reached, and measures what their networks cost.

    Args:
        paths: the runs' folders.

    Raises:
        InputError: a folder holds no finished run of a classifier.
    """
    return Comparison(tuple(_read(Path(path)) for path in paths))


def _read(folder: Path) -> ComparedRun:
    recipe = recipe_of(folder)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"the run in {folder} is of a detector; what is asked for needs a classifier's")
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        accuracy = float(summary["test_accuracy"])
        classes = int(summary["classes"])
    except FileNotFoundError:
        raise InputError(
            f"the run in {folder} isn't finished: there is no summary.json; sapoolc train --resume --run-dir {folder}"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / 'summary.json'} is damaged; sapoolc train --resume writes it again") from None
    with torch.device("meta"):
        model = compile_network(recipe, num_classes=classes, image_size=recipe.data.image_size)
        if summary.get("pruned"):
            narrow_like(model, best_checkpoint(folder, recipe))
    whole = total(costs(model, model.plan))
    return ComparedRun(
        run=folder.name,
        architecture=recipe.architecture,
        data=recipe.data.name,
        image_size=recipe.data.image_size,
        test_accuracy=accuracy,
        select=recipe.select,
        parameters=whole.parameters,
        macs=whole.macs,
        peak_bytes=activation_memory(model, model.plan).peak,
    )


def _figure(runs: Sequence[ComparedRun]) -> Figure:
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for panel, (name, label) in zip(panels, COSTS.items(), strict=True):
        for number, run in enumerate(runs):
            # Hollow: its epoch was chosen on the test set.
            face = "none" if run.select == "test" else f"C{number % 10}"
            note = " (epoch chosen on test)" if run.select == "test" else ""
            panel.scatter(
                getattr(run, name), run.test_accuracy, s=50, facecolor=face, edgecolor=f"C{number % 10}",
                label=f"{run.run}: {run.architecture}{note}",
            )  # fmt: skip
        panel.set_xscale("log")
        panel.set_xlabel(label)
        panel.grid(alpha=0.3, which="both")
        panel.margins(0.15)
    panels[0].set_ylabel("test accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1 if len(runs) < 4 else 2, fontsize="small")
    return figure
