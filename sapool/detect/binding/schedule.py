"""How a bound config trains: optimizer, schedule, loop, hooks, and where its files go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from sapool.detect.checkpoints import BEST, DropConfig
from sapool.detect.training.hooks import KeepCheckpoints
from sapool.detect.training.loop import ResumableLoop
from sapool.errors import InputError
from sapool.recipes.detection import DetectionRecipe, DetectionSchedule
from sapool.recipes.settings import Optimizer

_HALVES = {"16-mixed": "float16", "bf16-mixed": "bfloat16"}


def bind_training(config: Config, recipe: DetectionRecipe, work_dir: Path) -> None:
    """Sets optimizer, schedule, loop and hooks of a config, in place; what the recipe leaves out stays the base's.

    Raises:
        InputError: the base counts steps in place of epochs, and the recipe names no number of epochs.
    """
    settings = recipe.train
    epochs = _loop(config, recipe)
    if recipe.optimizer is not None:
        config.optim_wrapper = ConfigDict(type="OptimWrapper", optimizer=_optimizer(recipe.optimizer))
    if settings.clip_norm is not None:
        config.optim_wrapper.clip_grad = ConfigDict(max_norm=settings.clip_norm, norm_type=2)
    if settings.accumulate > 1:
        config.optim_wrapper.accumulative_counts = settings.accumulate
    if settings.precision in _HALVES:
        config.optim_wrapper.update(type="AmpOptimWrapper", dtype=_HALVES[settings.precision])
    if recipe.schedule is not None:
        config.param_scheduler = _schedulers(recipe.schedule, epochs)
    if settings.sync_batchnorm:
        config.sync_bn = "torch"
    config.pop("auto_scale_lr", None)
    hooks = config.default_hooks
    hooks.checkpoint = ConfigDict(type=KeepCheckpoints.__name__, interval=settings.save_every, keep=2, best=BEST)
    hooks.logger = ConfigDict(type="LoggerHook", interval=settings.log_every)
    config.custom_hooks = [*config.get("custom_hooks", []), ConfigDict(type=DropConfig.__name__)]
    config.env_cfg.dist_cfg = ConfigDict(backend="nccl" if torch.cuda.is_available() else "gloo")
    config.randomness = ConfigDict(seed=settings.seed)
    config.custom_imports = ConfigDict(imports=["sapool.detect"], allow_failed_imports=False)
    config.work_dir = str(work_dir)
    config.load_from, config.resume = None, False


def _loop(config: Config, recipe: DetectionRecipe) -> int:
    """Sets how long training lasts; returns the epochs."""
    loop = config.train_cfg
    own = loop.get("max_epochs")
    epochs = recipe.train.epochs or own
    if epochs is None:
        raise InputError("detector.base counts steps, not epochs; set train.epochs and a section [schedule]")
    config.train_cfg = ConfigDict(
        type=ResumableLoop.__name__, max_epochs=epochs, val_interval=recipe.train.validate_every
    )
    for hook in config.get("custom_hooks", []):
        if "switch_epoch" in hook and own:
            hook.switch_epoch = round(hook.switch_epoch * epochs / own)
    return int(epochs)


def _optimizer(given: Optimizer) -> dict[str, Any]:
    made: dict[str, Any] = {"lr": given.lr, "weight_decay": given.weight_decay}
    match given.name:
        case "sgd":
            return {"type": "SGD", **made, "momentum": given.momentum, "nesterov": given.nesterov}
        case "adam":
            return {"type": "Adam", **made, "amsgrad": given.amsgrad}
        case "adamw":
            return {"type": "AdamW", **made, "amsgrad": given.amsgrad}


def _schedulers(given: DetectionSchedule, epochs: int) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if given.warmup_steps:
        steps = given.warmup_steps
        made.append(
            {"type": "LinearLR", "start_factor": given.warmup_start, "by_epoch": False, "begin": 0, "end": steps}
        )
    span = {"by_epoch": True, "begin": 0, "end": epochs}
    if given.name == "step":
        made.append({"type": "MultiStepLR", **span, "milestones": list(given.milestones), "gamma": given.gamma})
    if given.name == "cosine":
        shape = {"T_max": epochs, "eta_min": given.min_lr, "convert_to_iter_based": True}
        made.append({"type": "CosineAnnealingLR", **span, **shape})
    return made
