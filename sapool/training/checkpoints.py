"""The checkpoints of a run on Lightning: marked as a run's own, and checked before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from sapool.errors import InputError, WeightsError
from sapool.model import CompiledModel
from sapool.recipes.network import NetworkRecipe
from sapool.training.temperature import set_temperature, temperature_of
from sapool.weights.files import checked, first_problem, misfits, read_checkpoint
from sapool.weights.narrowing import Shapes

LAST, BEST = "last.ckpt", "best.ckpt"
_FORMAT = "sapool-run-1"


def mark(recipe: NetworkRecipe, classes: tuple[str, ...], model: nn.Module) -> dict[str, Any]:
    """What a run adds to Lightning's checkpoint, under the key `sapool`."""
    return {
        "format": _FORMAT,
        "architecture": recipe.architecture,
        "dialect": recipe.dialect,
        "classes": list(classes),
        "temperature": temperature_of(model),
        "shapes": {key: list(shape) for key, shape in _shapes_of(model).items()},
    }


def _shapes_of(model: nn.Module) -> Shapes:
    """Of a pruned model, the shapes of its tensors."""
    compiled = next((part for part in model.modules() if isinstance(part, CompiledModel)), None)
    return (compiled.origin.shapes if compiled is not None else None) or {}


def read_run_checkpoint(path: Path, recipe: NetworkRecipe) -> dict[str, Any]:
    """A checkpoint of a recipe's run.

    Raises:
        WeightsError: it can't be read, isn't a run's checkpoint, or is of another architecture.
    """
    try:
        content = read_checkpoint(path, ours=True)
    except WeightsError as error:
        other = BEST if path.name == LAST else LAST
        raise WeightsError(
            f"{error}. If {path.parent / other} is whole, copy it to {path.name}; nothing was changed"
        ) from None
    try:
        own = _Contents.model_validate(content).sapool
        checked(content["state_dict"], path)
    except ValidationError as error:
        raise WeightsError(
            f"{path} isn't a checkpoint of a run of sapoolc train ({first_problem(error)}); nothing was changed"
        ) from None
    if (own.architecture, own.dialect) != (recipe.architecture, recipe.dialect):
        raise WeightsError(
            f"{path} is of {own.architecture} ({own.dialect} dialect), and the recipe of {recipe.architecture} "
            f"({recipe.dialect} dialect); nothing was changed"
        )
    return content


class _Mark(BaseModel):
    """What a run adds, as `mark` makes it."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    format: Literal["sapool-run-1"]
    architecture: str
    dialect: str
    classes: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    temperature: Annotated[float, Field(gt=0)] | None
    shapes: dict[str, list[Annotated[int, Field(ge=0, lt=2**40)]]] = Field(default_factory=dict)


class _Contents(BaseModel):
    """What of Lightning's checkpoint is used, by us and by what it restores from it."""

    model_config = ConfigDict(extra="ignore", strict=True, arbitrary_types_allowed=True)

    sapool: _Mark
    epoch: Annotated[int, Field(ge=0)]
    global_step: Annotated[int, Field(ge=0)]
    state_dict: dict[str, Tensor]
    optimizer_states: list[dict[str, Any]]
    lr_schedulers: list[dict[str, Any]]
    callbacks: dict[str, dict[str, Any]]
    loops: dict[str, dict[str, Any]]


def last_checkpoint(folder: Path, recipe: NetworkRecipe) -> dict[str, Any] | None:
    """The checkpoint to go on from, or None where the run ended before its first.

    Raises:
        WeightsError: it is damaged, or of another run.
    """
    last = folder / LAST
    return read_run_checkpoint(last, recipe) if last.exists() else None


def best_checkpoint(folder: Path, recipe: NetworkRecipe) -> dict[str, Any]:
    """The checkpoint of the best epoch.

    Raises:
        InputError: there is none yet, it is damaged, or it is of another run.
    """
    best = folder / BEST
    if not best.exists():
        raise InputError(f"the run in {folder} has no {BEST} yet; let it finish its first epoch")
    return read_run_checkpoint(best, recipe)


def narrow_like(model: CompiledModel, content: dict[str, Any]) -> None:
    """Gives a model the layers of the one that a checkpoint is of, where that was pruned.

    Raises:
        WeightsError: they don't fit.
    """
    shapes = content["sapool"].get("shapes")
    if shapes and model.origin.shapes is None:
        model.narrow({key: tuple(shape) for key, shape in shapes.items()})


def load_into(model: CompiledModel, content: dict[str, Any], path: Path) -> None:
    """A checkpoint's weights, and its temperature where the backbone is dynamic, into a compiled model.

    Raises:
        WeightsError: they don't fit.
    """
    narrow_like(model, content)
    prefix = "model."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    if odd := misfits(model.state_dict(), weights):
        raise WeightsError(f"{path} doesn't fit its architecture: {odd}")
    model.load_state_dict(weights)
    if content["sapool"]["temperature"] is not None:
        set_temperature(model, content["sapool"]["temperature"])
