"""What a detector's best model is worth: COCO's average precision, of all classes and of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sapool.boxes.coco import check_dataset, find_dataset
from sapool.boxes.evaluation import FIGURES, DetectorEvaluation
from sapool.detect.binding.config import bind
from sapool.detect.engine import EpochHook, make_runner, quiet_mmengine
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.outputs import save_json
from sapool.runs.progress import Progress
from sapool.runs.protocol import Run


def evaluate(run: Run[DetectionRecipe, Any], progress: Progress) -> DetectorEvaluation:
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
        runner.register_hook(EpochHook(progress))
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
