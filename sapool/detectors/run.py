"""A run of a detector of torchvision's, opened: its best model, and what can be asked of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sapool.boxes.detections import Detections
from sapool.boxes.drawing import drawn, save
from sapool.boxes.evaluation import DetectorEvaluation
from sapool.detectors.boxes import find_boxes
from sapool.detectors.module import build_model
from sapool.errors import WeightsError
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.channels import shown
from sapool.runs.images import read_image
from sapool.runs.outputs import file_names, make_folder
from sapool.runs.progress import Progress
from sapool.runs.protocol import Images, Run, as_names
from sapool.runs.results import Heatmaps
from sapool.training.checkpoints import BEST, best_checkpoint


class TorchvisionRun(Run[DetectionRecipe, nn.Module]):
    """What `sapool.open_run` gives for a run of a detector of torchvision's."""

    def evaluate(self, progress: Progress | None = None) -> DetectorEvaluation:
        from sapool.detectors.evaluate import evaluate  # noqa: PLC0415 - Lightning's trainer comes with it

        return evaluate(self, progress or Progress())

    def predict(
        self, images: Images, *, top: int = 3, threshold: float = 0.3, output: str | Path | None = None
    ) -> Detections:
        names = as_names(images)
        pictures = [read_image(name, self.recipe.model.in_chans) for name in names]
        found = tuple(find_boxes(self.model, pictures, self.classes, threshold))
        folder = None if output is None else Path(output)
        if folder is not None:
            make_folder(folder)
            for picture, boxes, name in zip(pictures, found, file_names(names), strict=True):
                save(drawn(shown(picture), boxes, self.classes), folder / name)
        return Detections(names, found, threshold, folder)

    def heatmap(
        self, images: Images, *, label: str | None = None, threshold: float = 0.3, output: str | Path | None = None
    ) -> Heatmaps:
        from sapool.detectors.heatmap import heatmap  # noqa: PLC0415 - matplotlib comes with it

        return heatmap(self, as_names(images), threshold, Path(output) if output else self.path / "heatmaps")


def open_run(path: Path, recipe: DetectionRecipe) -> TorchvisionRun:
    """Opens the best model of a run, with the classes that it was trained with.

    Raises:
        InputError: the run has no checkpoint yet, or one that doesn't fit.
    """
    content = best_checkpoint(path, recipe)
    classes = tuple(content["sapool"]["classes"])
    model = build_model(recipe, len(classes), last=True)
    weights = {
        key.removeprefix("model."): value for key, value in content["state_dict"].items() if key.startswith("model.")
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{path / BEST} doesn't fit the detector that the run's recipe describes: {reason}"
        ) from None
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return TorchvisionRun(path, recipe, classes, content["epoch"] + 1, model)
