"""Recipes: TOML files that say what to train, on what, and how. Validated by pydantic; no torch here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sapool import recipes
from sapool.errors import InputError, RecipeError, did_you_mean
from sapool.grammar import parse
from sapool.plan import Dialect


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Data(_Section):
    """What is learned."""

    name: Literal["digits"] = Field(description="the data set")
    image_size: int = Field(32, ge=8, description="side of the images in pixels")
    validation: float = Field(
        0.1, gt=0, lt=1, description="share of the training set that is held out to choose the best epoch"
    )
    workers: int = Field(0, ge=0, description="processes that load data")


class Optimizer(_Section):
    """How weights follow gradients; names and defaults are torch.optim's."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(0.01, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="for sgd")
    weight_decay: float = Field(0.0, ge=0)


class Schedule(_Section):
    """How the learning rate falls."""

    name: Literal["constant", "step", "cosine"] = "step"
    milestones: tuple[float, ...] = Field(
        (0.6, 0.8, 0.9), description="for step: parts of the epochs after which the rate falls"
    )
    gamma: float = Field(0.2, gt=0, le=1, description="for step: by which it is multiplied there")

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)) or not all(0 < part < 1 for part in value):
            raise ValueError("expected ascending parts between 0 and 1")
        return value


class Train(_Section):
    """How long, how much at once, on what."""

    epochs: int = Field(300, ge=1)
    batch_size: int = Field(8, ge=2, description="images in a batch; batch norm needs two")
    seed: int = Field(0, ge=0, lt=2**32)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = Field("32-true", description="Lightning's names")
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"


class Recipe(_Section):
    """A whole recipe.

    Attributes:
        title: the recipe's name, from its file; it names the run.
    """

    title: str = Field("run", exclude=True)
    architecture: str = Field(description="an architecture string")
    dialect: Dialect = "torchvision"
    weights: str | None = Field(None, description="DEFAULT for published weights, or a checkpoint's path")
    data: Data
    optimizer: Optimizer = Optimizer()  # type: ignore[call-arg]
    schedule: Schedule = Schedule()  # type: ignore[call-arg]
    train: Train = Train()  # type: ignore[call-arg]

    @field_validator("architecture")
    @classmethod
    def _canonical(cls, value: str) -> str:
        return str(parse(value))

    def to_toml(self) -> str:
        """The recipe with every setting resolved, as TOML that `read_recipe` reads back."""
        tables = self.model_dump(mode="json", exclude_none=True)
        top = [f"{key} = {_toml(value)}" for key, value in tables.items() if not isinstance(value, dict)]
        sections = [
            "\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())])
            for name, table in tables.items()
            if isinstance(table, dict)
        ]
        return "\n\n".join(["\n".join(top), *sections]) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


def read_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies overrides such as `train.epochs=5`.

    Args:
        source: the path of a TOML file, or the name of a shipped recipe.
        overrides: `key=value`, dots between a section and its setting; values as in TOML, bare words as strings.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown setting, or a value that can't be used.
    """
    is_path = source.endswith(".toml") or "/" in source
    data = _parse(_read(source) if is_path else recipes.text(source), source)
    for override in overrides:
        _apply(data, override)
    try:
        return Recipe.model_validate({**data, "title": Path(source).stem})
    except ValidationError as error:
        raise RecipeError(f"{source}: " + "; ".join(_explain(problem) for problem in error.errors())) from None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"the recipe {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"the recipe {path} isn't text") from None


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{source} isn't TOML: {error}") from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise RecipeError(f"the override '{override}' isn't of the form key=value, for instance train.epochs=5")
    *sections, name = key.split(".")
    for section in sections:
        inner = data.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"the override '{override}': '{section}' is a setting, not a section")
        data = inner
    data[name] = _value(value)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(problem: Any) -> str:
    """One sentence for one of pydantic's findings."""
    place = [str(part) for part in problem["loc"]]
    name = ".".join(place)
    if problem["type"] == "extra_forbidden":
        return f"unknown setting '{name}'." + _nearest_setting(place)
    if problem["type"] == "missing":
        return f"the setting '{name}' is missing"
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return f"{name}: {cause}"
    said = str(cause or problem["msg"])
    return f"{name}: {said[0].lower()}{said[1:]}, not {problem['input']!r}"


def _nearest_setting(place: list[str]) -> str:
    """The known setting nearest to an unknown one: in its own section first, then anywhere."""
    sections = {name: field.annotation for name, field in Recipe.model_fields.items()}
    known = [name for name in sections if name != "title"]
    for section, annotation in sections.items():
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            known += [f"{section}.{name}" for name in annotation.model_fields]
    same = [name for name in known if name.rpartition(".")[0] == ".".join(place[:-1])]
    full = ".".join(place)
    return did_you_mean(full, same) or did_you_mean(full, known) or f" Known here: {', '.join(same)}."
