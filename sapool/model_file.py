"""Models on disk: weights, and the plan that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from sapool.analysis.shapes import on_meta
from sapool.catalogue.backbones import OWN
from sapool.catalogue.passes import PASSES
from sapool.compiler import execute
from sapool.digests import add_to_archive
from sapool.errors import InputError, WeightsError
from sapool.inference import optimize
from sapool.ir.plan import Plan
from sapool.ir.plan_file import EarlierPlan, from_json
from sapool.model import CompiledModel
from sapool.planning import make_plan
from sapool.weights.atomic import replacing
from sapool.weights.files import checked, first_problem, misfits, mixed, read_checkpoint

FORMAT = "sapool-model-2"
EARLIER = "sapool-model-1"


def contents(model: CompiledModel) -> dict[str, Any]:
    """What a file of the model holds: plain data and tensors, which `weights_only=True` reads."""
    return {
        "format": FORMAT,
        "architecture": model.plan.architecture,
        "plan": (model.origin.full or model.plan).to_json(),
        "optimized": model.origin.optimized,
        "guests": list(model.origin.guests),
        "without": list(model.origin.without),
        "shapes": {key: list(shape) for key, shape in (model.origin.shapes or {}).items()},
        "state_dict": model.state_dict(),
    }


def save(model: CompiledModel, path: str | Path) -> None:
    """Writes a model's weights and its plan; `load` makes the model again.

    Raises:
        InputError: the file can't be written.
    """
    with replacing(path) as temporary:
        try:
            torch.save(contents(model), temporary)
            add_to_archive(temporary)
        except RuntimeError as error:  # torch's own words for a write that fails midway
            raise InputError(f"{path} can't be written: {_first_line(error)}; is the disk full?") from None


def load(path: str | Path, *, backbone: nn.Module | None = None) -> CompiledModel:
    """Reads what `save` wrote, on the CPU and in training mode, as a new model would be.

    Args:
        path: the file.
        backbone: your own network again, where the model was made of one; its weights don't matter.

    Raises:
        InputError: the model was made of a network of yours, or with another package's pass, which isn't there.
        WeightsError: the file isn't such a model, or is damaged.
    """
    return restore(read_checkpoint(path, ours=True), path, backbone=backbone)


def restore(content: dict[str, Any], path: str | Path, *, backbone: nn.Module | None = None) -> CompiledModel:
    """The model that a file's contents describe; `path` is for messages."""
    if str(content.get("format")) not in (FORMAT, EARLIER):
        raise WeightsError(f"{path} isn't a sapool model; to use it as weights: sapool.compile(TEXT, weights='{path}')")
    try:
        held = _Contents.model_validate(content)
        state = checked(held.state_dict, path)
        plan = _plan_in(held, backbone)
    except ValidationError as error:
        raise _damaged(path, first_problem(error)) from None
    except (InputError, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if f"'{OWN}'" in str(error) and backbone is None:
            raise _needs_backbone(path, str(content.get("architecture"))) from None
        raise _damaged(path, _first_line(error)) from None
    missing = [name for name in held.guests if name not in PASSES]
    if plan.backbone == OWN and backbone is None:
        raise _needs_backbone(path, plan.architecture)
    if missing:
        raise InputError(f"{path} was made with the pass {missing[0]}, which no installed package has; install its own")
    try:
        # Built without data: every tensor comes from the file. But for those that no state dict holds.
        model = _made(plan, held, on_meta(backbone).train() if backbone is not None else None, "meta")
        if odd := misfits(model.state_dict(), state):
            raise WeightsError(odd)
        if kinds := mixed(state):
            raise WeightsError(f"they mix {kinds}")
        model.load_state_dict(state, assign=True)
        if any(buffer.is_meta for buffer in model.buffers()):
            model = _made(plan, held, backbone, "cpu")
            model.load_state_dict(state)
    except (InputError, KeyError, TypeError, RuntimeError, AttributeError, ValueError, OverflowError) as error:
        raise _damaged(path, _first_line(error)) from None
    return model


class _Contents(BaseModel):
    """What a file of either format holds."""

    model_config = ConfigDict(extra="ignore", strict=True)

    format: str
    architecture: str
    plan: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    optimized: bool = False
    guests: list[str] = Field(default_factory=list)
    without: list[str] = Field(default_factory=list)
    shapes: dict[str, list[Annotated[int, Field(ge=0, lt=2**40)]]] = Field(default_factory=dict)
    state_dict: dict[str, Any]


def load_pruned(path: str | Path) -> CompiledModel | None:
    """The model in a file, if it is a pruned one's: its weights fit no network that is compiled from its text.

    Raises:
        InputError, WeightsError: as `load`.
    """
    content = read_checkpoint(path)
    return restore(content, path) if content.get("format") == FORMAT and content.get("shapes") else None


def _plan_in(held: _Contents, backbone: nn.Module | None) -> Plan:
    if held.format == EARLIER:  # it held the arguments of `compile`
        return make_plan(held.architecture, **held.options, backbone=backbone)
    plan = from_json(held.plan, "its plan")
    if isinstance(plan, EarlierPlan) or held.architecture != plan.architecture:
        raise InputError("its plan is of another format or architecture than the file")
    return plan


def _made(plan: Plan, held: _Contents, backbone: nn.Module | None, device: str) -> CompiledModel:
    with torch.device(device):
        model = execute(plan, backbone=backbone, without=held.without)
        if held.shapes:  # of a pruned one
            model.narrow({key: tuple(shape) for key, shape in held.shapes.items()})
        if not held.optimized:
            return model
        tuned = optimize(model)
        if not misfits(tuned.state_dict(), held.state_dict):
            return tuned
        return optimize(model, without=("fold_projections",))  # as earlier versions did


def _needs_backbone(path: str | Path, architecture: str) -> InputError:
    return InputError(f"{path} holds {architecture}, made of a network of yours: sapool.load(PATH, backbone=MODULE)")


def _damaged(path: str | Path, reason: str) -> WeightsError:
    return WeightsError(f"{path} is damaged: its weights don't belong to its architecture ({reason})")


def _first_line(error: Exception) -> str:
    """What an exception says, without the heading that torch puts over lists of keys."""
    lines = [line.strip() for line in str(error).splitlines() if not line.endswith(":")]
    return (lines or [type(error).__name__])[0].rstrip(". ")
