"""The temperature of dynamic convolutions' kernel attention: annealed in training, folded into the weights after it."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from sapool.poolings.dynamic import KernelAttention

_BUILT_WITH = 34.0


class TemperatureAnnealing(Callback):
    """Lowers the temperature linearly to 1 in the first epochs (dynamic convolution's paper, section 3.2)."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.modules: list[tuple[KernelAttention, float]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.modules = [(module, module.temperature) for module in _attentions(pl_module)]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        part = min(trainer.current_epoch / self.epochs, 1.0)
        for module, first in self.modules:
            module.temperature = first + (1.0 - first) * part


def temperature_of(model: nn.Module) -> float | None:
    """The temperature of a model's dynamic convolutions, which is the same in all; None where it has none."""
    return next((module.temperature for module in _attentions(model)), None)


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Gives every dynamic convolution of a model this temperature."""
    for module in _attentions(model):
        module.temperature = temperature


@torch.no_grad()
def fold_temperature(model: nn.Module) -> None:
    """Gives every dynamic convolution the temperature that it is built with, and the outputs that it has now.

    softmax(fc2(h)/T) = softmax((34/T)·fc2(h)/34), so the last layer of the kernel attention is scaled. A file of
    weights then needs no temperature beside it.
    """
    for module in _attentions(model):
        if module.temperature != _BUILT_WITH:
            factor = _BUILT_WITH / module.temperature
            module.fc2.weight.mul_(factor)
            assert module.fc2.bias is not None
            module.fc2.bias.mul_(factor)
            module.temperature = _BUILT_WITH


def _attentions(model: nn.Module) -> list[KernelAttention]:
    return [module for module in model.modules() if isinstance(module, KernelAttention)]
