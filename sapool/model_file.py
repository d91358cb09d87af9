"""Models on disk: weights, and the architecture that they belong to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sapool.analysis.shapes import on_meta
from sapool.catalogue.backbones import OWN
from sapool.compiler import compile
from sapool.errors import InputError, WeightsError
from sapool.inference import optimize
from sapool.model import CompiledModel
from sapool.weights.atomic import replacing
from sapool.weights.transfer import read_checkpoint

FORMAT = "sapool-model-1"


def contents(model: CompiledModel) -> dict[str, Any]:
    """What a file of the model holds: plain data and tensors, which `weights_only=True` reads."""
    return {
        "format": FORMAT,
        "architecture": model.plan.architecture,
        "options": options(model),
        "optimized": model.origin.optimized,
        "state_dict": model.state_dict(),
    }


def options(model: CompiledModel) -> dict[str, Any]:
    """The arguments with which `compile` makes this model again."""
    plan = model.plan
    indices = None if plan.out_indices is None else list(plan.out_indices)
    return {
        "num_classes": plan.num_classes,
        "dialect": plan.dialect,
        "image_size": plan.image_size,
        "features_only": plan.features_only,
        "out_indices": indices,
    }


def save(model: CompiledModel, path: str | Path) -> None:
    """Writes a model's weights and architecture; `load` makes the model again.

    Raises:
        InputError: the file can't be written.
    """
    with replacing(path) as temporary:
        try:
            torch.save(contents(model), temporary)
        except RuntimeError as error:  # torch's own words for a write that fails midway
            raise InputError(f"{path} can't be written: {_first_line(error)}; is the disk full?") from None


def load(path: str | Path, *, backbone: nn.Module | None = None) -> CompiledModel:
    """Reads what `save` wrote, on the CPU and in training mode, as a new model would be.

    Args:
        path: the file.
        backbone: your own network again, where the model was made of one; its weights don't matter.

    Raises:
        InputError: the model was made of a network of yours, which isn't given.
        WeightsError: the file isn't such a model, or is damaged.
    """
    return restore(read_checkpoint(path), path, backbone=backbone)


def restore(content: dict[str, Any], path: str | Path, *, backbone: nn.Module | None = None) -> CompiledModel:
    """The model that a file's contents describe; `path` is for messages."""
    if content.get("format") != FORMAT:
        raise WeightsError(f"{path} isn't a sapool model; to use it as weights: sapool.compile(TEXT, weights='{path}')")
    name = str(content.get("architecture"))
    if backbone is None and re.search(rf"(^|-)(dy)?{OWN}(_v2)?-", name):
        raise InputError(f"{path} holds {name}, made of a network of yours: sapool.load(PATH, backbone=MODULE)")
    try:
        # Built without data: every tensor comes from the file. But for those that no state dict holds.
        model = _made(content, on_meta(backbone).train() if backbone is not None else None, "meta")
        model.load_state_dict(content["state_dict"], assign=True)
        if any(buffer.is_meta for buffer in model.buffers()):
            model = _made(content, backbone, "cpu")
            model.load_state_dict(content["state_dict"])
    except (InputError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise WeightsError(
            f"{path} is damaged: its weights don't belong to its architecture ({_first_line(error)})"
        ) from None
    return model


def _made(content: dict[str, Any], backbone: nn.Module | None, device: str) -> CompiledModel:
    with torch.device(device):
        model = compile(content["architecture"], **content["options"], backbone=backbone)
        return optimize(model) if content.get("optimized") else model


def _first_line(error: Exception) -> str:
    """What an exception says, without the heading that torch puts over lists of keys."""
    lines = [line.strip() for line in str(error).splitlines() if not line.endswith(":")]
    return (lines or [type(error).__name__])[0].rstrip(". ")
