"""Every setting of a recipe by its dotted name: what it is, and what other programs call it. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

INTERNAL = ("title", "notes", "plan")
"""Fields of a recipe that nobody writes."""

_ELSEWHERE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "architecture": ("arch", "model", "network", "backbone", "net"),
        "weights": ("checkpoint", "pretrained", "init", "ckpt"),
        "data.name": ("dataset", "data_set"),
        "data.root": ("data_root", "data_dir", "data_path", "dataroot", "root_dir", "path"),
        "data.image_size": ("size", "img_size", "imgsz", "input_size", "resolution", "img"),
        "data.workers": ("num_workers", "j"),
        "optimizer.name": ("opt", "optim"),
        "optimizer.lr": ("learning_rate", "lr0", "base_lr"),
        "optimizer.weight_decay": ("wd", "decay"),
        "schedule.name": ("sched", "scheduler", "lr_scheduler"),
        "schedule.warmup_epochs": ("warmup", "warm_up", "lr_warmup_epochs"),
        "schedule.warmup_steps": ("warmup_iters",),
        "train.epochs": ("num_epochs", "max_epochs", "n_epochs", "epoch", "e"),
        "train.batch_size": ("bs", "batch", "batchsize", "b"),
        "train.seed": ("random_seed", "manual_seed"),
        "train.clip_norm": ("clip_grad", "grad_clip", "gradient_clip_val", "max_norm"),
        "train.accumulate": ("grad_accum_steps", "accumulate_grad_batches"),
        "train.precision": ("amp", "fp16"),
        "train.accelerator": ("device",),
        "train.devices": ("gpus", "num_gpus", "gpu"),
        "train.label_smoothing": ("smoothing",),
        "train.ema": ("model_ema", "ema_decay"),
    }
)


def settings_of(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """Every setting of a kind of recipe under its dotted name, in order; sections themselves aren't settings."""
    found: dict[str, FieldInfo] = {}
    for name, field in kind.model_fields.items():
        parts = [part for part in (get_args(field.annotation) or (field.annotation,)) if _is_section(part)]
        if parts:  # an optional section is a union
            found |= {f"{name}.{inner}": value for inner, value in parts[0].model_fields.items()}
        elif name not in INTERNAL:
            found[name] = field
    return found


def setting_called(word: str, kind: type[BaseModel]) -> str | None:
    """The setting that a word means: the only one of that name in any section, or what others call so."""
    known = list(settings_of(kind))
    same = [name for name in known if name.rpartition(".")[2] == word]
    if len(same) == 1:
        return same[0]
    return next((name for name in known if word.lower() in _ELSEWHERE.get(name, ())), None)


def _is_section(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
