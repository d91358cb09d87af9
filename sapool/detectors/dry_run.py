"""A dry run of a detector of torchvision's: everything is built, a batch goes through twice, nothing is written."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import torch

from sapool.detectors.data import BoxModule
from sapool.detectors.module import build_model
from sapool.errors import WorkError
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.results import DryRun, Table
from sapool.training.optimizers import make_optimizer


@dataclass(frozen=True, kw_only=True)
class TorchvisionDryRun(DryRun):
    """A detector's recipe, tried.

    Attributes:
        recipe: it.
        images: how many train, and validate.
        classes: how many.
        maps: name, channels and reduction of each that feeds the detector.
        loss: the first one.
    """

    recipe: DetectionRecipe
    images: tuple[int, int]
    classes: int
    maps: tuple[tuple[str, str, str], ...]
    loss: float

    def report(self) -> tuple[Table | str, ...]:
        minutes = self.steps * self.seconds * self.epochs / 60
        return (
            Table(("map", "channels", "size"), self.maps, f"what torchvision's {self.recipe.detector.base} takes"),
            f"{self.recipe.data.name}: {self.images[0]:,} training images, {self.images[1]:,} validation images, "
            f"{self.classes} classes\n"
            f"the first loss is {self.loss:.4g}; a training batch of {self.recipe.train.batch_size} took "
            f"{self.seconds:.2f} s\n"
            f"estimate: {self.steps:,} batches an epoch, {minutes:.0f} min for {self.epochs} epochs on this machine, "
            "without validation",
        )

    def as_data(self) -> dict[str, Any]:
        return {
            "images": dict(zip(("training", "validation"), self.images, strict=True)),
            "classes": self.classes,
            "batches": self.steps,
            "epochs": self.epochs,
            "first_loss": self.loss,
            "training_batch_seconds": self.seconds,
        }


def dry_run(recipe: DetectionRecipe) -> TorchvisionDryRun:
    """Builds what a recipe describes, and runs two batches. The first one warms up, the second is timed.

    Raises:
        InputError: the recipe or the data can't be used.
        WorkError: the loss is no number.
    """
    assert recipe.optimizer is not None
    assert recipe.train.epochs is not None
    data = BoxModule(recipe)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(recipe.train.seed)
        model: Any = build_model(recipe, len(data.dataset.classes)).train()
        optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad], recipe.optimizer)
        loader, losses, seconds = data.train_dataloader(), [], 0.0
        for images, targets in itertools.islice(itertools.cycle(loader), 2):
            started = time.monotonic()
            loss = torch.stack(list(model(images, targets).values())).sum()
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seconds = time.monotonic() - started
    if not torch.tensor(losses).isfinite().all():
        raise WorkError(f"the first losses of the detector are {losses}; lower optimizer.lr")
    maps = tuple((f.name, str(f.channels), f"1/{f.reduction}") for f in model.backbone.body.feature_info)
    return TorchvisionDryRun(
        seconds=seconds,
        steps=len(loader),
        epochs=recipe.train.epochs,
        recipe=recipe,
        images=(len(data.train), len(data.val)),
        classes=len(data.dataset.classes),
        maps=maps,
        loss=losses[0],
    )
