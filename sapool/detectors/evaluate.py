"""What a detector's best model is worth: COCO's average precision, of all classes and of each."""

from __future__ import annotations

import lightning as L
from torch import nn

from sapool.boxes.evaluation import DetectorEvaluation
from sapool.detectors.data import BoxModule
from sapool.detectors.module import Detection
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.outputs import save_json
from sapool.runs.progress import Progress
from sapool.runs.protocol import Run
from sapool.training.reporting import Reporter
from sapool.training.trainer import quiet_lightning


def evaluate(run: Run[DetectionRecipe, nn.Module], progress: Progress) -> DetectorEvaluation:
    """Measures a run's model on its validation images; writes `evaluation.json` into the run.

    Raises:
        InputError: the data isn't there.
    """
    recipe, module = run.recipe, Detection(run.model, run.recipe)
    with quiet_lightning():
        data = BoxModule(recipe)
        trainer = L.Trainer(
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
    evaluation = DetectorEvaluation(
        epoch=run.epoch,
        images=len(data.val),
        scores=module.figures(),
        per_class=module.per_class(run.classes),
        architecture=recipe.architecture,
        detector=f"torchvision's {recipe.detector.base}",
        data=recipe.data.name,
    )
    save_json(evaluation.as_data(), run.path / "evaluation.json")
    return evaluation
