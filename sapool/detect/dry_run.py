"""A dry run of a detector: everything is bound and tried on real batches, and time is estimated. No run is begun."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from sapool.boxes.coco import check_dataset, find_dataset
from sapool.detect.binding.config import BoundConfig, bind, smoke_test, start_model, write_config
from sapool.detect.engine import quiet_mmengine
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.results import DryRun, Result, Table


@dataclass(frozen=True)
class BoundDetector(Result):
    """What was bound of a recipe.

    Attributes:
        bound: the config, and the numbers that follow from the network.
    """

    bound: BoundConfig

    def report(self) -> tuple[Table | str, ...]:
        """What the heads see, and what feeds the neck."""
        binding, (width, height) = self.bound.binding, self.bound.size
        maps = tuple(
            (str(index), feature.name, str(feature.channels), f"1/{feature.reduction}")
            for index, feature in zip(binding.indices, binding.features, strict=True)
        )
        strides = [" x ".join(dict.fromkeys(f"{edge:.5g}" for edge in level.stride)) for level in binding.levels]
        levels = tuple((str(n), str(level.channels), strides[n]) for n, level in enumerate(binding.levels))
        return (
            Table(("out index", "map", "channels", "size"), maps, "what the neck takes"),
            Table(("level", "channels", "stride"), levels, "what the heads see"),
            Table(("head", "type", "family"), binding.heads),
            f"images of {width}x{height}, padded to multiples of {binding.divisor}; {self.bound.classes} classes",
        )

    def as_data(self) -> dict[str, Any]:
        config: dict[str, Any] = self.bound.config.to_dict()
        return config

    def write(self, path: str | Path) -> None:
        """Writes the config for mmdet's own tools, which choose the folder of their files by its name.

        Raises:
            InputError: the file can't be written.
        """
        config = self.bound.config.copy()
        config.pop("work_dir")
        write_config(config, path)


@dataclass(frozen=True, kw_only=True)
class DetectorDryRun(DryRun):
    """A detector's recipe, tried.

    Attributes:
        recipe: it.
        bound: what was bound of it.
        images: how many train, and validate.
        loss: the first one, on noise.
    """

    recipe: DetectionRecipe
    bound: BoundDetector
    images: tuple[int, int]
    loss: float

    def report(self) -> tuple[Table | str, ...]:
        minutes = self.steps * self.seconds * self.epochs / 60
        return (
            *self.bound.report(),
            f"{self.recipe.data.name}: {self.images[0]:,} training images, {self.images[1]:,} validation images, "
            f"{self.bound.bound.classes} classes\n"
            f"the first loss, on noise, is {self.loss:.4g}; a training batch of {self.recipe.train.batch_size} took "
            f"{self.seconds:.2f} s\n"
            f"estimate: {self.steps:,} batches an epoch, {minutes:.0f} min for {self.epochs} epochs on this machine, "
            "without validation",
        )

    def as_data(self) -> dict[str, Any]:
        return {
            "images": dict(zip(("training", "validation"), self.images, strict=True)),
            "classes": self.bound.bound.classes,
            "batches": self.steps,
            "epochs": self.epochs,
            "first_loss": self.loss,
            "training_batch_seconds": self.seconds,
        }


def dry_run(recipe: DetectionRecipe) -> DetectorDryRun:
    """Binds what a recipe describes, and runs a batch twice.

    Raises:
        InputError: the recipe, the data or the base can't be used.
        WorkError: the detector doesn't run.
    """
    with tempfile.TemporaryDirectory() as folder, quiet_mmengine():
        dataset = find_dataset(recipe.data)
        images = check_dataset(dataset, recipe.train.batch_size)
        bound = bind(recipe, dataset, Path(folder))
        loss = smoke_test(bound)
        seconds = _time_a_batch(bound)
    return DetectorDryRun(
        seconds=seconds,
        steps=images[0] // recipe.train.batch_size,
        epochs=bound.config.train_cfg.max_epochs,
        recipe=recipe,
        bound=BoundDetector(bound),
        images=images,
        loss=loss,
    )


def bind_recipe(recipe: DetectionRecipe) -> BoundDetector:
    """Binds what a recipe describes, without the data where COCO's own is meant, and tries it on noise.

    Raises:
        InputError: as in `dry_run`.
        WorkError: the detector doesn't run.
    """
    with quiet_mmengine():
        bound = bind(recipe, find_dataset(recipe.data, present=False), Path("work_dirs") / recipe.title)
        smoke_test(bound)
    return BoundDetector(bound)


def _time_a_batch(bound: BoundConfig) -> float:
    """Seconds that a training step takes, loading included. The first one warms up, the second is timed."""
    model = start_model(bound.config)
    model.train()
    optimizer = build_optim_wrapper(model, bound.config.optim_wrapper)
    MessageHub.get_current_instance().update_info("iter", 0)  # some augmentations of batches ask which step it is
    batches = itertools.islice(itertools.cycle(Runner.build_dataloader(bound.config.train_dataloader, seed=0)), 2)
    seconds = 0.0
    for _ in range(2):
        started = time.monotonic()
        model.train_step(next(batches), optimizer)
        seconds = time.monotonic() - started
    return seconds
