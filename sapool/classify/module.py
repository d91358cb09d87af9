"""The classification task, as Lightning takes it: model, loss, metrics, optimizer."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from sapool.classify.data.samples import Batch
from sapool.classify.data.transforms import mixing
from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.model_file import load_pruned
from sapool.recipes.settings import Recipe
from sapool.runs.failures import loss_is_no_number
from sapool.runs.networks import compile_network
from sapool.training.checkpoints import narrow_like
from sapool.training.optimizers import make_optimizer, make_schedule

SELECTION_NAMES = {"val": "val", "test": "selected_on_test"}
"""How metrics of the images that choose the best epoch are called. Those chosen on the test set say so."""


def build_model(recipe: Recipe, classes: int, *, last: dict[str, Any] | None = None) -> CompiledModel:
    """The recipe's model; with a pruned model's file as weights that one.

    Args:
        recipe: what is trained.
        classes: how many.
        last: the checkpoint that a run is resumed from, whose weights are loaded later.

    Raises:
        InputError: the pruned model is of another architecture, or of other classes or channels.
    """
    file = None if last is not None or recipe.weights == "DEFAULT" else recipe.weights
    pruned = None if file is None else load_pruned(file)
    if pruned is not None:
        model, given = pruned, pruned.plan.options
        own = pruned.plan.architecture, given.dialect, given.num_classes
        if own != (recipe.architecture, recipe.dialect, classes):
            raise InputError(
                f"weights: {recipe.weights} is a pruned {own[0]} ({own[1]} dialect) of {own[2]} classes; the recipe "
                f"trains {recipe.architecture} ({recipe.dialect} dialect) on {classes}"
            )
        if given.in_chans != recipe.model.in_chans:
            raise InputError(
                f"model.in_chans: {recipe.weights} takes images of {given.in_chans} channels, not of "
                f"{recipe.model.in_chans}"
            )
    else:
        weights = None if last is not None else recipe.weights
        model = compile_network(
            recipe,
            weights=weights,
            pools_start=recipe.pools_start,
            num_classes=classes,
            image_size=recipe.data.image_size,
        )
    if last is not None:
        narrow_like(model, last)
    if recipe.train.channels_last:
        model.to(memory_format=torch.channels_last)
    return model


class Classification(L.LightningModule):
    """Trains a compiled model with cross-entropy; logs loss and top-1 accuracy.

    Raises (from training): WorkError, the loss is no number.
    """

    def __init__(self, model: CompiledModel, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        classes = model.plan.options.num_classes
        self.selection = SELECTION_NAMES[recipe.select]
        self.metrics = nn.ModuleDict()
        for part in ("train", self.selection, "test"):
            self.metrics[f"{part}_loss"] = MeanMetric()
            self.metrics[f"{part}_accuracy"] = MulticlassAccuracy(classes, average="micro")
        self.mixing = mixing(recipe.data, classes)
        if recipe.train.compile:
            # In place, so that the parameters keep their names.
            self.model.compile()

    def forward(self, x: Tensor) -> Tensor:
        if self.recipe.train.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.model(x)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, labels = batch
        targets = labels
        if self.mixing is not None:
            x, targets = self.mixing(x, labels)
        logits = self(x)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.recipe.train.label_smoothing)
        if not loss.isfinite():
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise loss_is_no_number(loss.item(), self.current_epoch + 1, batch_idx + 1, rate)
        self.log("train_loss_step", loss.detach(), on_step=True, on_epoch=False, sync_dist=self.trainer.world_size > 1)
        self._measure("train", logits.detach(), labels, loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.selection)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, part: str) -> None:
        x, labels = batch
        logits = self(x)
        self._measure(part, logits, labels, F.cross_entropy(logits, labels))

    def _measure(self, part: str, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        mean, accuracy = self.metrics[f"{part}_loss"], self.metrics[f"{part}_accuracy"]
        assert isinstance(mean, MeanMetric)
        assert isinstance(accuracy, MulticlassAccuracy)
        mean.update(loss, len(labels))
        accuracy.update(logits, labels)
        self.log(f"{part}_loss", mean, on_step=False, on_epoch=True)
        self.log(f"{part}_accuracy", accuracy, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        epochs = self.recipe.train.epochs
        optimizer = make_optimizer(self.model.parameters(), self.recipe.optimizer)
        # Not Lightning's estimated_stepping_batches: it makes the loader before a resumed one's place is known.
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        steps = -(-batches // self.recipe.train.accumulate)
        schedule = make_schedule(optimizer, self.recipe.schedule, epochs, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # An epoch that goes on after an interruption ends with the averages of all of it.
        inside = not self.trainer.is_last_batch
        checkpoint["train_metrics"] = {
            name: {state: v.detach().clone() for state, v in metric.metric_state.items() if isinstance(v, Tensor)}
            for name, metric in self._training_metrics()
            if inside
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, metric in self._training_metrics():
            for state, value in checkpoint.get("train_metrics", {}).get(name, {}).items():
                setattr(metric, state, value.to(metric.device))

    def _training_metrics(self) -> list[tuple[str, Metric]]:
        return [
            (name, metric)
            for name, metric in self.metrics.items()
            if name.startswith("train_") and isinstance(metric, Metric)
        ]
