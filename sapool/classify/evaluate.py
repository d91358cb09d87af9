"""What a classifier's best model gets right on the test set, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import lightning as L
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from sapool.classify.data.module import DataModule
from sapool.classify.data.samples import Batch
from sapool.errors import visible
from sapool.model import CompiledModel
from sapool.recipes.settings import Recipe
from sapool.runs.confusion import draw_confusion
from sapool.runs.outputs import save_figure, save_json
from sapool.runs.progress import Progress
from sapool.runs.protocol import Run
from sapool.runs.results import Evaluation, Table
from sapool.training.reporting import Reporter
from sapool.training.trainer import has_accelerator, quiet_lightning

TOP = 5


@dataclass(frozen=True)
class ClassifierEvaluation(Evaluation):
    """Accuracies on the test set: `top1`, `top5`, and of each class.

    Attributes:
        architecture, data: what was measured on what.
        chosen_on: which images chose the epoch.
        confusion: counts, a row a true class, a column a predicted one.
        plot: file of the confusion matrix.
    """

    architecture: str
    data: str
    chosen_on: str
    confusion: tuple[tuple[int, ...], ...]
    plot: str

    def as_data(self) -> dict[str, object]:
        return {
            "architecture": self.architecture,
            "data": self.data,
            "test_images": self.images,
            "best_epoch": self.epoch,
            "chosen_on": self.chosen_on,
            **self.scores,
            "per_class": dict(self.per_class),
            "confusion": [list(row) for row in self.confusion],
        }

    def report(self) -> tuple[Table | str, ...]:
        shown = {name: value for name, value in self.as_data().items() if name not in ("per_class", "confusion")}
        whole = tuple((name.replace("_", " "), str(value)) for name, value in shown.items())
        classes = tuple((name, f"{value:.4f}") for name, value in self.per_class.items())
        return (
            Table(("result", "value"), whole),
            Table(("class", "accuracy"), classes, f"per class, epoch chosen on {self.chosen_on}"),
            f"confusion matrix in {visible(self.plot)}",
        )


class EvaluationModule(L.LightningModule):
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


def evaluate(run: Run[Recipe, CompiledModel], progress: Progress) -> ClassifierEvaluation:
    """Evaluates a run's model on its test set; writes `evaluation.json` and `confusion.png` into the run.

    Raises:
        InputError: the data isn't there.
    """
    recipe, module = run.recipe, EvaluationModule(run.model)
    data = DataModule(recipe)
    with quiet_lightning():
        trainer = L.Trainer(
            accelerator=_here(recipe.train.accelerator),
            devices=1,
            precision=recipe.train.precision,
            logger=False,
            enable_checkpointing=False,
            callbacks=[Reporter(progress)],
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.test(module, datamodule=data, verbose=False)
    result, plot = module.result, run.path / "confusion.png"
    evaluation = ClassifierEvaluation(
        epoch=run.epoch,
        images=len(data.test),
        scores={name: round(float(result[name]), 6) for name in ("top1", f"top{TOP}")},
        per_class={name: round(float(v), 6) for name, v in zip(run.classes, result["per_class"], strict=True)},
        architecture=recipe.architecture,
        data=recipe.data.name,
        chosen_on="the test set itself" if recipe.select == "test" else "held-out training images",
        confusion=tuple(tuple(row) for row in result["confusion"].tolist()),
        plot=str(plot),
    )
    title = f"{evaluation.architecture}\ntop-1 {evaluation.scores['top1']:.4f}, epoch chosen on {evaluation.chosen_on}"
    save_figure(draw_confusion(evaluation.confusion, run.classes, title), plot)
    save_json(evaluation.as_data(), run.path / "evaluation.json")
    return evaluation


def _here(accelerator: str) -> str:
    """What a run was trained on, where this machine has it: opening a run asks nothing of the machine."""
    return accelerator if accelerator == "cpu" or has_accelerator(accelerator) else "auto"
