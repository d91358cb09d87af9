"""`sapoolc compare`: runs side by side, accuracy against cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from sapool.classify.history import save_figure
from sapool.cli.tables import console, count, show_table
from sapool.compiler import compile
from sapool.cost.flops import costs, total
from sapool.cost.memory import activation_memory
from sapool.errors import InputError
from sapool.runs.folder import recipe_of

COSTS = {"parameters": "parameters", "macs": "MACs", "peak_bytes": "peak activations, bytes (int8, one image)"}


def compare(paths: Sequence[str], *, output: str | Path = "compare.png", as_json: bool = False) -> int:
    """Prints a table of finished runs, and plots accuracy against parameters, MACs and peak activation memory.

    Args:
        paths: the runs' folders.
        output: where the plot goes, a PNG.
        as_json: print JSON in place of the table.

    Raises:
        InputError: a folder holds no finished run, or the plot can't be written.
    """
    runs = [_read(Path(path)) for path in paths]
    save_figure(_plot(runs), Path(output))
    if as_json:
        print(json.dumps(runs, indent=2))  # noqa: T201
        return 0
    rows = [
        (r["run"], r["architecture"], r["data"], str(r["image_size"]), f"{r['test_accuracy']:.4f}", r["select"],
         *(count(r[name]) for name in COSTS))
        for r in runs
    ]  # fmt: skip
    heads = ("run", "architecture", "data", "size", "test accuracy", "epoch chosen on", *COSTS.values())
    out = console()
    show_table(out, heads, rows)
    if len({(r["data"], r["select"]) for r in runs}) > 1:
        out.print("\nnote: these runs differ in data or in what chose their epoch; their accuracies don't compare")
    out.print(f"\nplot in {output}", markup=False)
    return 0


def _read(folder: Path) -> dict[str, Any]:
    recipe = recipe_of(folder)
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
        model = compile(
            recipe.architecture, num_classes=classes, dialect=recipe.dialect, image_size=recipe.data.image_size
        )
    whole = total(costs(model, model.plan))
    return {
        "run": folder.name,
        "architecture": recipe.architecture,
        "data": recipe.data.name,
        "image_size": recipe.data.image_size,
        "test_accuracy": accuracy,
        "select": recipe.select,
        "parameters": whole.parameters,
        "macs": whole.macs,
        "peak_bytes": activation_memory(model, model.plan).peak,
    }


def _plot(runs: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for panel, (name, label) in zip(panels, COSTS.items(), strict=True):
        for number, entry in enumerate(runs):
            # Hollow: its epoch was chosen on the test set.
            face = "none" if entry["select"] == "test" else f"C{number % 10}"
            note = " (epoch chosen on test)" if entry["select"] == "test" else ""
            panel.scatter(
                entry[name], entry["test_accuracy"], s=50, facecolor=face, edgecolor=f"C{number % 10}",
                label=f"{entry['run']}: {entry['architecture']}{note}",
            )  # fmt: skip
        panel.set_xscale("log")
        panel.set_xlabel(label)
        panel.grid(alpha=0.3, which="both")
        panel.margins(0.15)
    panels[0].set_ylabel("test accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1 if len(runs) < 4 else 2, fontsize="small")
    return figure
