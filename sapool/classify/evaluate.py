"""`sapoolc evaluate`: what a run's best model gets right on the test set, class by class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from sapool.classify.data.loading import Batch
from sapool.classify.data.module import DataModule
from sapool.classify.history import save_figure
from sapool.classify.run import quiet
from sapool.cli.tables import console, show_table
from sapool.model import CompiledModel
from sapool.recipes.settings import Recipe
from sapool.runs.folder import model_of
from sapool.weights.atomic import write_text

TOP = 5


class Evaluation(L.LightningModule):
    """Measures a model on labelled images: top-1, top-5, per class, confusion."""

    def __init__(self, model: CompiledModel) -> None:
        super().__init__()
        self.model = model
        classes = model.plan.options.num_classes
        self.metrics = MetricCollection(
            {
                "top1": MulticlassAccuracy(classes, average="micro"),
                "top5": MulticlassAccuracy(classes, average="micro", top_k=min(TOP, classes)),
                "per_class": MulticlassAccuracy(classes, average="none"),
                "confusion": MulticlassConfusionMatrix(classes),
            },
            compute_groups=False,
        )
        self.result: dict[str, Tensor] = {}

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        x, labels = batch
        self.metrics.update(self.model(x), labels)

    def on_test_epoch_end(self) -> None:
        self.result = {name: value.cpu() for name, value in self.metrics.compute().items()}


def evaluate(path: str | Path, *, as_json: bool = False) -> int:
    """Evaluates the best model of a run on its test set; writes `evaluation.json` and `confusion.png` into the run.

    Args:
        path: the run's folder.
        as_json: print JSON in place of tables.

    Raises:
        InputError: no run, no checkpoint, or no data.
    """
    quiet()
    folder = Path(path)
    model, recipe, classes, epoch = model_of(folder)
    data = DataModule(recipe)
    task = Evaluation(model)
    trainer = L.Trainer(
        accelerator=recipe.train.accelerator,
        devices=1,
        precision=recipe.train.precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=console().is_terminal and not as_json,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.test(task, datamodule=data, verbose=False)
    content = _content(recipe, classes, epoch, task.result, len(data.test))
    save_figure(_confusion(task, classes, content), folder / "confusion.png")
    write_text(folder / "evaluation.json", json.dumps(content, indent=2) + "\n")
    if as_json:
        print(json.dumps(content, indent=2))  # noqa: T201
        return 0
    out = console()
    names = ("architecture", "data", "test_images", "best_epoch", "chosen_on", "top1", f"top{TOP}")
    show_table(out, ("result", "value"), [(name.replace("_", " "), str(content[name])) for name in names])
    out.print()
    rows = [(name, f"{accuracy:.4f}") for name, accuracy in content["per_class"].items()]
    show_table(out, ("class", "accuracy"), rows, title=f"per class, epoch chosen on {content['chosen_on']}")
    out.print(f"\nconfusion matrix in {folder / 'confusion.png'}", markup=False)
    return 0


def _content(
    recipe: Recipe, classes: tuple[str, ...], epoch: int, result: dict[str, Tensor], images: int
) -> dict[str, Any]:
    return {
        "architecture": recipe.architecture,
        "data": recipe.data.name,
        "test_images": images,
        "best_epoch": epoch,
        "chosen_on": "the test set itself" if recipe.select == "test" else "held-out training images",
        "top1": round(float(result["top1"]), 6),
        f"top{TOP}": round(float(result["top5"]), 6),
        "per_class": {name: round(float(v), 6) for name, v in zip(classes, result["per_class"], strict=True)},
        "confusion": result["confusion"].tolist(),
    }


def _confusion(task: Evaluation, classes: tuple[str, ...], content: dict[str, Any]) -> Figure:
    """torchmetrics' plot, large enough for its labels."""
    side = min(max(5.0, 0.55 * len(classes)), 40.0)
    figure = Figure(figsize=(side + 1, side + 1), layout="constrained")
    axes = figure.subplots()
    # Beyond a few dozen classes numbers and names would be a grey smear.
    few = len(classes) <= 40
    task.metrics["confusion"].plot(ax=axes, labels=list(classes) if few else None, add_text=few)
    axes.set_title(f"{content['architecture']}\ntop-1 {content['top1']:.4f}, epoch chosen on {content['chosen_on']}")
    return figure
