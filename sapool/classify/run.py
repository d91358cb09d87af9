"""A classifier's run, opened: its best model, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sapool.classify.data import transforms
from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.recipes.settings import Recipe
from sapool.runs.images import read_image
from sapool.runs.networks import compile_network
from sapool.runs.progress import Progress
from sapool.runs.protocol import Images, Run, as_names
from sapool.runs.results import Evaluation, Heatmaps, Predictions, Table
from sapool.training.checkpoints import BEST, best_checkpoint, load_into

if TYPE_CHECKING:
    from sapool.classify.steadiness import Steadiness

_BATCH = 32


@dataclass(frozen=True)
class Classifications(Predictions):
    """The most probable classes of each image.

    Attributes:
        ranked: of each image, (class, probability) from the most probable on.
    """

    ranked: tuple[tuple[tuple[str, float], ...], ...]

    def report(self) -> tuple[Table | str, ...]:
        most = max((len(classes) for classes in self.ranked), default=0)
        rows = tuple(
            (image, *(f"{name} {probability:.4f}" for name, probability in classes))
            for image, classes in zip(self.images, self.ranked, strict=True)
        )
        return (Table(("image", *(f"{place + 1}." for place in range(most))), rows),)

    def as_data(self) -> list[dict[str, object]]:
        return [
            {"image": image, "classes": [{"class": name, "probability": p} for name, p in classes]}
            for image, classes in zip(self.images, self.ranked, strict=True)
        ]


class ClassifierRun(Run[Recipe, CompiledModel]):
    """What `sapool.open_run` gives for a classifier's run."""

    def evaluate(self, progress: Progress | None = None) -> Evaluation:
        # Evaluating brings Lightning with it, and heatmaps Grad-CAM: seconds that predicting does without.
        from sapool.classify.evaluate import evaluate  # noqa: PLC0415

        return evaluate(self, progress or Progress())

    def steadiness(self, *, shifts: int | None = None, corruptions: Sequence[str] = (), seed: int = 0) -> Steadiness:
        """How steady the model is when images move or worsen, as `sapool.classify.steadiness.measure_steadiness`."""
        from sapool.classify.steadiness import measure_steadiness  # noqa: PLC0415

        return measure_steadiness(self, shifts=shifts, corruptions=corruptions, seed=seed)

    def predict(
        self, images: Images, *, top: int = 3, threshold: float = 0.3, output: str | Path | None = None
    ) -> Classifications:
        if top < 1:
            raise InputError(f"top: expected a positive number, not {top}")
        names, data, channels = as_names(images), self.recipe.data, self.recipe.model.in_chans
        crop, normalise = transforms.evaluation(data), transforms.normalise(data)
        ranked = []
        for first in range(0, len(names), _BATCH):
            batch = names[first : first + _BATCH]
            x = normalise(torch.stack([crop(read_image(name, channels)) for name in batch]))
            with torch.inference_mode():
                found = self.model(x).softmax(1).topk(min(top, len(self.classes)))
            for values, labels in zip(found.values.tolist(), found.indices.tolist(), strict=True):
                ranked.append(
                    tuple((self.classes[i], round(value, 6)) for i, value in zip(labels, values, strict=True))
                )
        return Classifications(names, tuple(ranked))

    def heatmap(
        self, images: Images, *, label: str | None = None, threshold: float = 0.3, output: str | Path | None = None
    ) -> Heatmaps:
        from sapool.classify.heatmap import heatmap  # noqa: PLC0415

        return heatmap(self, as_names(images), label, Path(output) if output else self.path / "heatmaps")


def open_run(path: Path, recipe: Recipe) -> ClassifierRun:
    """Opens the best model of a classifier's run.

    Raises:
        InputError: the run has no checkpoint yet, or one that can't be used.
    """
    content = best_checkpoint(path, recipe)
    classes = tuple(content["sapool"]["classes"])
    model = compile_network(recipe, num_classes=len(classes), image_size=recipe.data.image_size)
    load_into(model, content, path / BEST)
    return ClassifierRun(path, recipe, classes, content["epoch"] + 1, model.eval())
