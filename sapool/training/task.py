"""The classification task, as Lightning takes it: model, loss, metrics, optimiser."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from sapool.model import CompiledModel
from sapool.training.recipe import Recipe


class Classification(L.LightningModule):
    """Trains a compiled model with cross-entropy; logs loss and top-1 accuracy."""

    def __init__(self, model: CompiledModel, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        classes = model.plan.num_classes
        self.accuracy = torch.nn.ModuleDict(
            {part: MulticlassAccuracy(classes, average="micro") for part in ("train_", "val_", "test_")}
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]

    def _step(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        x, labels = batch
        logits = self(x)
        loss = F.cross_entropy(logits, labels)
        accuracy = self.accuracy[f"{part}_"]
        assert isinstance(accuracy, MulticlassAccuracy)
        accuracy(logits, labels)
        self.log(f"{part}_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        self.log(f"{part}_accuracy", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "test")

    def configure_optimizers(self) -> Any:
        settings, schedule, epochs = self.recipe.optimizer, self.recipe.schedule, self.recipe.train.epochs
        parameters = self.model.parameters()
        optimizer: torch.optim.Optimizer
        match settings.name:
            case "sgd":
                optimizer = torch.optim.SGD(
                    parameters, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
                )
            case "adam":
                optimizer = torch.optim.Adam(parameters, settings.lr, weight_decay=settings.weight_decay)
            case "adamw":
                optimizer = torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay)
        match schedule.name:
            case "constant":
                return optimizer
            case "step":
                steps = [round(part * epochs) for part in schedule.milestones]
                return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, steps, schedule.gamma)]
            case "cosine":
                return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)]
