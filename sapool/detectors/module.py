"""The detection task, as Lightning takes it: a detector of torchvision's, its losses, COCO's AP, optimizer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.detection import MeanAveragePrecision

from sapool.boxes.evaluation import FIGURES
from sapool.detectors.build import torchvision_detector
from sapool.detectors.data import Batch
from sapool.errors import InputError, require_extra
from sapool.planning import plan_from_json
from sapool.recipes.detection import DetectionRecipe, DetectionSchedule
from sapool.recipes.settings import Schedule, Train
from sapool.runs.failures import loss_is_no_number
from sapool.training.history import UNIFORMITY
from sapool.training.optimizers import make_optimizer, make_schedule

require_extra("train", "detection", ("pycocotools",))

PART = "val"
_OURS = dict(zip(FIGURES, ("map", "map_50", "map_75", "map_small", "map_medium", "map_large"), strict=True))
_ALWAYS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75")
BEST = f"{PART}_bbox_mAP"


def build_model(recipe: DetectionRecipe, classes: int, *, last: bool = False) -> nn.Module:
    """The recipe's detector.

    Args:
        recipe: what is trained.
        classes: how many.
        last: weights come from a checkpoint, later.

    Raises:
        InputError: the network, the detector and the images don't fit together.
    """
    settings, data = recipe.detector, recipe.data
    assert data.sides is not None
    return torchvision_detector(
        settings.base,
        recipe.architecture if recipe.plan is None else plan_from_json(recipe.plan, "the recipe's plan"),
        classes,
        weights=None if last else _weights(recipe.weights),
        dialect=recipe.dialect,
        image_size=data.sides,
        in_chans=recipe.model.in_chans,
        out_indices=settings.out_indices,
        stages_only=settings.stages_only,
        frozen_stages=settings.frozen_stages,
        norm_eval=settings.norm_eval,
        mean=data.mean,
        std=data.std,
        **({"channels": settings.neck_channels[0]} if settings.neck_channels else {}),
    )


def _weights(source: str | None) -> str | None:
    """A checkpoint's path; that of the best model where a classifier's finished run is named."""
    if source is None or not Path(source).is_dir():
        return source
    if not (Path(source) / "model.pt").is_file():
        raise InputError(f"weights: {source} is no finished run of a classifier: it has no model.pt")
    return str(Path(source) / "model.pt")


def measured_every(recipe: DetectionRecipe) -> int:
    """Epochs between measurements: as many as the recipe says, or fewer, so that the last epoch is measured too."""
    epochs = recipe.train.epochs
    assert epochs is not None
    return next(every for every in range(min(recipe.train.validate_every, epochs), 0, -1) if epochs % every == 0)


def trainer_settings(recipe: DetectionRecipe) -> Train:
    """What Lightning's trainer is told."""
    given = recipe.train
    assert given.epochs is not None
    return Train(
        epochs=given.epochs,
        batch_size=max(given.batch_size, 2),
        accumulate=given.accumulate,
        seed=given.seed,
        clip_norm=given.clip_norm,
        precision=given.precision,
        log_every=given.log_every,
    )  # type: ignore[call-arg]


class Detection(L.LightningModule):
    """Trains a detector of torchvision's; logs its losses and COCO's AP on the validation images.

    Raises (from training): WorkError, the loss is no number.
    """

    def __init__(self, model: nn.Module, recipe: DetectionRecipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.mean = MeanMetric()
        self.precision = MeanAveragePrecision(class_metrics=True, backend="pycocotools")
        self.precision.warn_on_many_detections = False
        self.measured: dict[str, Tensor] = {}

    def on_train_epoch_start(self) -> None:
        # An epoch that isn't measured has no figures, not those of the last one that was.
        for name in [name for name in self.trainer.callback_metrics if name.startswith((f"{PART}_", UNIFORMITY))]:
            self.trainer.callback_metrics.pop(name)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        losses: Mapping[str, Tensor] = self.model(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        if not loss.isfinite():
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise loss_is_no_number(loss.item(), self.current_epoch + 1, batch_idx + 1, rate)
        self.log("train_loss_step", loss.detach(), on_step=True, on_epoch=False, batch_size=len(images))
        self.mean.update(loss.detach(), len(images))
        self.log("train_loss", self.mean, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        found = [{name: value.float() if name != "labels" else value for name, value in boxes.items()}
                 for boxes in self.model(images)]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
            self.precision.update(found, targets)

    def on_validation_epoch_end(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.measured = {name: value.cpu() for name, value in self.precision.compute().items()}
        self.precision.reset()
        for name, value in self.figures().items():
            if value is not None:
                self.log(f"{PART}_{name}", value, prog_bar=name == "bbox_mAP", batch_size=1)

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def figures(self) -> dict[str, float | None]:
        """The last measurement by COCO's names; None where no box is of a size."""
        found = {name: float(self.measured[theirs]) for name, theirs in _OURS.items()}
        for name in _ALWAYS:
            found[name] = max(found[name], 0.0)  # torchmetrics gives -1 too where nothing at all was found
        return {name: round(value, 4) if value >= 0 else None for name, value in found.items()}

    def per_class(self, classes: tuple[str, ...]) -> dict[str, float | None]:
        """The last measurement's AP of each class; None where no box is of it."""
        labels = self.measured["classes"].flatten().tolist()
        values = dict(zip(labels, self.measured["map_per_class"].flatten().tolist(), strict=True))
        found = {name: values.get(number, -1.0) for number, name in enumerate(classes, start=1)}
        return {name: round(value, 4) if value >= 0 else None for name, value in found.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # An epoch that goes on after an interruption ends with the average of all of it.
        inside = not self.trainer.is_last_batch
        state = {name: v.detach().clone() for name, v in self.mean.metric_state.items() if isinstance(v, Tensor)}
        checkpoint["train_metrics"] = state if inside else {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, value in checkpoint.get("train_metrics", {}).items():
            setattr(self.mean, name, value.to(self.mean.device))

    def configure_optimizers(self) -> Any:
        assert self.recipe.optimizer is not None
        assert self.recipe.schedule is not None
        assert self.recipe.train.epochs is not None
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = make_optimizer(learning, self.recipe.optimizer)
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        steps = -(-batches // self.recipe.train.accumulate)
        epochs = self.recipe.train.epochs
        schedule = make_schedule(optimizer, _in_parts(self.recipe.schedule, epochs, steps), epochs, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _in_parts(given: DetectionSchedule, epochs: int, steps: int) -> Schedule:
    """A schedule by epochs and warm-up steps, as one by parts of all epochs and warm-up epochs."""
    return Schedule(
        name=given.name,
        milestones=tuple(epoch / epochs for epoch in given.milestones if epoch < epochs),
        gamma=given.gamma,
        warmup_epochs=given.warmup_steps / steps,
        warmup_start=given.warmup_start,
        min_lr=given.min_lr,
    )
