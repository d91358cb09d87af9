"""A detector's run, opened: its best model, and what can be asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sapool.boxes.coco import find_dataset
from sapool.boxes.detections import Detections
from sapool.boxes.drawing import drawn, save
from sapool.boxes.evaluation import DetectorEvaluation
from sapool.detect.binding.config import bind, build_model, check_fits
from sapool.detect.boxes import find_boxes, read_pictures, red_first
from sapool.detect.checkpoints import best_of, read_run_checkpoint
from sapool.detect.engine import quiet_mmengine
from sapool.detect.evaluate import evaluate
from sapool.detect.heatmap import heatmap
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.outputs import file_names, make_folder
from sapool.runs.progress import Progress
from sapool.runs.protocol import Images, Run, as_names
from sapool.runs.results import Heatmaps


class DetectorRun(Run[DetectionRecipe, Any]):
    """What `sapool.open_run` gives for a detector's run; its `model` is mmdet's detector."""

    def evaluate(self, progress: Progress | None = None) -> DetectorEvaluation:
        return evaluate(self, progress or Progress())

    def predict(
        self, images: Images, *, top: int = 3, threshold: float = 0.3, output: str | Path | None = None
    ) -> Detections:
        names, found = as_names(images), []
        pictures, files = read_pictures(names), file_names(names)
        folder = None if output is None else Path(output)
        for picture, file in zip(pictures, files, strict=True):
            with quiet_mmengine():
                found.append(find_boxes(self.model, picture, self.classes, threshold))
            if folder is not None:
                make_folder(folder)
                save(drawn(red_first(picture), found[-1], self.classes), folder / file)
        return Detections(names, tuple(found), threshold, folder)

    def heatmap(
        self, images: Images, *, label: str | None = None, threshold: float = 0.3, output: str | Path | None = None
    ) -> Heatmaps:
        return heatmap(self, as_names(images), threshold, Path(output) if output else self.path / "heatmaps")


def open_run(path: Path, recipe: DetectionRecipe) -> DetectorRun:
    """Opens the best model of a detector's run, with the classes that it was trained with.

    Raises:
        InputError: the run has no checkpoint yet, or one that doesn't fit.
    """
    best = best_of(path)
    with quiet_mmengine():
        content = read_run_checkpoint(best, recipe.architecture)
        bound = bind(recipe, find_dataset(recipe.data, present=False), path, run=path)
        check_fits(bound, content, best)
        model = build_model(bound.config)
        model.load_state_dict(content["state_dict"])
    # What mmdet's `inference_detector` looks for.
    model.cfg = bound.config
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    classes = tuple(bound.config.val_dataloader.dataset.metainfo.classes)
    return DetectorRun(path, recipe, classes, content["meta"]["epoch"], model)
