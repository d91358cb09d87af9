"""What a detector's best model is worth: COCO's average precision, of all classes and of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapool.detect.binding.config import bind
from sapool.detect.data.coco import check_dataset, find_dataset
from sapool.detect.engine import make_runner, quiet_mmengine
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.outputs import save_json
from sapool.runs.protocol import Run
from sapool.runs.results import Evaluation, Table

# COCO's names for what its evaluation prints.
FIGURES = {
    "bbox_mAP": "AP, IoU 0.50 to 0.95",
    "bbox_mAP_50": "AP at IoU 0.50",
    "bbox_mAP_75": "AP at IoU 0.75",
    "bbox_mAP_s": "AP of small objects",
    "bbox_mAP_m": "AP of medium objects",
    "bbox_mAP_l": "AP of large objects",
}


@dataclass(frozen=True)
class DetectorEvaluation(Evaluation):
    """Average precisions on the validation images: the `FIGURES`, and that of each class.

    Attributes:
        architecture, detector, data: what was measured on what.
    """

    architecture: str
    detector: str
    data: str

    def as_data(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "detector": self.detector,
            "data": self.data,
            "validation_images": self.images,
            "epoch": self.epoch,
            **self.scores,
            "per_class": dict(self.per_class),
        }

    def report(self) -> tuple[Table | str, ...]:
        where = f"{self.images} validation images of {self.data}"
        title = f"{self.architecture} in {self.detector}, epoch {self.epoch}, {where}"
        figures = tuple((FIGURES[name], _shown(value)) for name, value in self.scores.items())
        classes = tuple((name, _shown(value)) for name, value in self.per_class.items())
        return (
            Table(("figure", "value"), figures, title),
            Table(("class", "AP"), classes, "per class, IoU 0.50 to 0.95"),
        )


def evaluate(run: Run[DetectionRecipe, Any]) -> DetectorEvaluation:
    """Measures a run's model on its validation images; writes `evaluation.json` into the run.

    Raises:
        InputError: the data isn't there.
    """
    recipe = run.recipe
    with quiet_mmengine():
        dataset = find_dataset(recipe.data)
        images = check_dataset(dataset, 1)[1]
        bound = bind(recipe, dataset, run.path / "evaluation", run=run.path)
        runner = make_runner(bound.config)
        runner.model.load_state_dict(run.model.state_dict())
        metrics = runner.test()
    evaluation = DetectorEvaluation(
        epoch=run.epoch,
        images=images,
        scores={name: _figure(metrics, name) for name in FIGURES},
        per_class={name: _figure(metrics, f"{name}_precision") for name in dataset.classes},
        architecture=recipe.architecture,
        detector=Path(recipe.detector.base).stem,
        data=recipe.data.name,
    )
    save_json(evaluation.as_data(), run.path / "evaluation.json")
    return evaluation


def _figure(metrics: Mapping[str, float], name: str) -> float | None:
    # mmdet leaves a figure out where no box is of its kind, or gives -1 or NaN.
    value = float(metrics.get(f"coco/{name}", -1))
    return round(value, 4) if value >= 0 else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
