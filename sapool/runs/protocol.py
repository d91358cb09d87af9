"""The one protocol of every task, whatever its engine.

A task is a room of the package with three functions, each in the module of its name:

* `fit.fit(recipe: R, folder: RunFolder, progress: Progress) -> Fit` trains what the recipe describes;
* `dry_run.dry_run(recipe: R) -> DryRun` builds and tries it, and keeps nothing;
* `run.open_run(path: Path, recipe: R) -> Run[R, M]` opens the best model of a run.

None of them prints. `sapool.tasks` finds the room of a recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Generic, TypeVar

from sapool.errors import InputError
from sapool.recipes.reading import AnyRecipe
from sapool.runs.progress import Progress
from sapool.runs.results import Evaluation, Heatmaps, Predictions

R = TypeVar("R", bound=AnyRecipe)
M = TypeVar("M")
Images = str | Path | Sequence[str | Path]
"""An image file, a folder of some or a pattern, or several of these."""


@dataclass(frozen=True)
class Run(ABC, Generic[R, M]):
    """A run whose best model is loaded, ready to predict.

    Attributes:
        path: its folder.
        recipe: what was trained.
        classes: names, by label.
        epoch: of the model, from 1.
        model: in evaluation mode.
    """

    path: Path
    recipe: R
    classes: tuple[str, ...]
    epoch: int
    model: M

    @abstractmethod
    def evaluate(self, progress: Progress | None = None) -> Evaluation:
        """Measures the model on the images that the recipe keeps for that; writes `evaluation.json` into the run.

        Args:
            progress: may let the engine draw its bar.

        Raises:
            InputError: the data isn't there.
        """

    @abstractmethod
    def predict(
        self, images: Images, *, top: int = 3, threshold: float = 0.3, output: str | Path | None = None
    ) -> Predictions:
        """What the model sees in images.

        Args:
            images: files.
            top: of a classifier, how many classes of each image.
            threshold: of a detector, the lowest score of a box.
            output: of a detector, the folder for images with their boxes drawn; None draws nothing.

        Raises:
            InputError: an image can't be read, or the folder can't be made.
        """

    @abstractmethod
    def heatmap(
        self, images: Images, *, label: str | None = None, threshold: float = 0.3, output: str | Path | None = None
    ) -> Heatmaps:
        """Draws a sheet an image: the weights of every pool, and what else the task can show.

        Args:
            images: files.
            label: of a classifier, the true class of all of them; None to take the name of each image's folder where
                it is a class.
            threshold: of a detector, the lowest score of a box that is drawn.
            output: the folder for the sheets; None for `heatmaps` in the run.

        Raises:
            InputError: no such class, an image can't be read, or the folder can't be made.
        """


SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What image files in a folder end with."""


def as_names(images: Images) -> tuple[str, ...]:
    """One image file, or several, as names: a folder stands for all images in and below it, a pattern for what fits.

    Raises:
        InputError: a file isn't there, or there is no image in a folder or of a pattern.
    """
    given = (images,) if isinstance(images, (str, Path)) else images
    return tuple(name for image in given for name in _names(str(image)))


def _names(given: str) -> Iterator[str]:
    path = Path(given)
    if path.is_dir():
        found = sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not found:
            raise InputError(f"there is no image in the folder {given}; images end with {', '.join(SUFFIXES)}")
    elif not path.exists() and has_magic(given):
        fitting = glob(given, recursive=True)  # noqa: PTH207 - absolute ones too
        found = sorted(name for name in fitting if Path(name).is_file())
        if not found:
            raise InputError(f"no image is like {given}")
    elif not path.exists():
        raise InputError(f"no such image: {given}")
    else:
        found = [given]
    yield from found
