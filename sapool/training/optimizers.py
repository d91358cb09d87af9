"""Optimizers and learning-rate schedules: torch's, by their names in the recipe."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim
from torch.optim import lr_scheduler

from sapool.recipes.settings import Optimizer, Schedule


def make_optimizer(parameters: Iterable[nn.Parameter], settings: Optimizer) -> optim.Optimizer:
    """The recipe's optimizer."""
    lr, decay = settings.lr, settings.weight_decay
    match settings.name:
        case "sgd":
            return optim.SGD(parameters, lr, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay)
        case "adam":
            return optim.Adam(parameters, lr, amsgrad=settings.amsgrad, weight_decay=decay)
        case "adamw":
            return optim.AdamW(parameters, lr, amsgrad=settings.amsgrad, weight_decay=decay)


def make_schedule(optimizer: optim.Optimizer, settings: Schedule, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
    """The recipe's schedule, to be stepped after every step of the optimizer.

    Args:
        optimizer: whose rate falls.
        settings: how.
        epochs: of the whole training.
        steps: of the optimizer in each of them.
    """
    warm = min(round(settings.warmup_epochs * steps), epochs * steps - 1)
    main: lr_scheduler.LRScheduler
    match settings.name:
        case "constant":
            main = lr_scheduler.ConstantLR(optimizer, factor=1.0)
        case "step":
            # Counted from the very first step: warming up doesn't move the milestones.
            milestones = [max(round(part * epochs) * steps - warm, 1) for part in settings.milestones]
            main = lr_scheduler.MultiStepLR(optimizer, milestones, settings.gamma)
        case "cosine":
            main = lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps - warm, eta_min=settings.min_lr)
    if warm == 0:
        return main
    rising = lr_scheduler.LinearLR(optimizer, settings.warmup_start, total_iters=warm)
    return lr_scheduler.SequentialLR(optimizer, [rising, main], [warm])
