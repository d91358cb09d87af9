"""What a study's file says: a recipe, axes, and how runs are made of them. TOML, validated by pydantic; no torch."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from sapool.cost.limits import Limits, read_limits
from sapool.errors import InputError, RecipeError, brief, did_you_mean, first_line
from sapool.recipes import studies
from sapool.recipes.reading import AnyRecipe, explained, read_recipe
from sapool.recipes.section import Section
from sapool.recipes.spelling import settings_of

MOST_RUNS = 100_000
SEED = "train.seed"
_LONGEST = 500  # characters of an architecture
Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_Bound = Annotated[int, Field(gt=-(2**53), lt=2**53)] | float  # what is drawn goes through a float's 53 bits


class Range(Section):
    """Numbers that are drawn, of a random study."""

    low: _Bound = Field(description="the lowest")
    high: _Bound = Field(description="the highest")
    log: bool = Field(False, description="evenly over their logarithms")

    @model_validator(mode="after")
    def _ascending(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("expected low < high, above 0 where log = true")
        return self


class Study(Section):
    """A study's file, with every key."""

    recipe: str = Field(description="a shipped recipe's name, or a .toml file beside this one")
    expand: Literal["product", "list", "grid", "random"] = Field(
        "product",
        description="product: every combination; list: the first of every axis, then the second, ...; grid: every "
        "combination in the order of Optuna's grid sampler; random: `runs` of Optuna's random sampler",
    )
    runs: int | None = Field(None, ge=1, le=MOST_RUNS, description="how many are drawn, of a random study")
    draw: int = Field(0, ge=0, lt=2**32, description="the seed of what is drawn")
    seeds: int | tuple[_Seed, ...] = Field(1, description="how many seeds of each, from 0; or which")
    threads: int | None = Field(
        None, ge=1, description="cores a run computes on (default: those of the machine, shared by --jobs)"
    )
    storage: str | None = Field(
        None, description="Optuna's: a journal file, or a database's address (default: journal.log in the folder)"
    )
    axes: dict[str, Any] = Field(description="what differs between runs: settings of the recipe, and words for names")
    settings: dict[str, Any] = Field({}, description="settings of all runs, in place of the recipe's")
    budget: dict[str, Any] = Field({}, description="memory, macs, parameters, device: what exceeds one isn't trained")

    @field_validator("seeds")
    @classmethod
    def _some(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if value in (0, ()) or (isinstance(value, int) and value < 0):
            raise ValueError("there is no run without a seed; expected a number of them, or a list")
        if (value if isinstance(value, int) else len(value)) > MOST_RUNS:
            raise ValueError(f"expected {MOST_RUNS:,} seeds at most")
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError("a seed is named twice")
        return value

    @property
    def seed_values(self) -> tuple[int, ...]:
        """The seeds that each combination is trained with."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclass(frozen=True)
class Definition:
    """A study that was read and makes sense, as far as its file alone tells.

    Attributes:
        title: the file's name.
        study: its keys.
        recipe: where its recipe is, as `read_recipe` takes it.
        base: that recipe, with the study's settings and without axes.
        axes: by its name, an axis' values; of a random study, perhaps a range.
        words: axes that only stand in names, such as `pool` in `"resnet18-{pool}-1222"`.
        limits: what a network may need.
    """

    title: str
    study: Study
    recipe: str
    base: AnyRecipe
    axes: Mapping[str, tuple[Value, ...] | Range]
    words: tuple[str, ...]
    limits: Limits


def read_study(source: str) -> Definition:
    """Reads a study's file, or a shipped study.

    Raises:
        RecipeError: no such file, not TOML, an unknown key or axis, or no run in it.
        InputError: its recipe or its budget can't be used.
    """
    is_path = source.endswith(".toml") or "/" in source
    title = Path(source).stem
    try:
        data = tomllib.loads(Path(source).read_text(encoding="utf-8") if is_path else studies.text(source))
    except OSError as error:
        raise RecipeError(f"the study {source} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"the study {source} isn't text") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise RecipeError(f"{source} isn't TOML: {first_line(error)}") from None
    for name in ("axes", "settings"):
        if isinstance(data.get(name), dict):
            data[name] = _dotted(data[name])
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{source}: {explained(error, Study)}") from None
    recipe = study.recipe
    if is_path and recipe.endswith(".toml"):
        recipe = str(Path(source).parent / recipe)
    try:
        base = read_recipe(recipe, [override(name, value) for name, value in study.settings.items()])
        axes = {name: _values(name, given, study) for name, given in study.axes.items()}
        words = _words(axes, base)
        limits = read_limits(study.budget)
    except InputError as error:
        raise RecipeError(f"{source}: {error}") from None
    return Definition(title, study, recipe, base, axes, words, limits)


def override(name: str, value: object) -> str:
    """A setting as `read_recipe` takes it in place of a recipe's."""
    return f"{name}={json.dumps(list(value) if isinstance(value, tuple) else value)}"


def placeholders(text: str) -> list[str]:
    """The words in braces of a text.

    Raises:
        RecipeError: a brace is open, or holds something else.
    """
    try:
        found = [(word, form, change) for _, word, form, change in Formatter().parse(text) if word is not None]
    except ValueError as error:
        raise RecipeError(f"axes.architecture: {brief(text)}: {first_line(error)}") from None
    if any(form or change or not word.isidentifier() for word, form, change in found):
        raise RecipeError(f"axes.architecture: {brief(text)}: expected the names of axes in braces, such as {{pool}}")
    return [word for word, _, _ in found]


def _dotted(table: dict[str, Any]) -> dict[str, Any]:
    """`optimizer.lr = [...]` is a table in a table for TOML; a range is a table of its own."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict) and not {"low", "high"} & set(value):
            found |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            found[name] = value
    return found


def _values(name: str, given: Any, study: Study) -> tuple[Value, ...] | Range:
    """An axis' values; one alone is one.

    Raises:
        RecipeError: there is none, or one twice, or one that no recipe could have.
    """
    if isinstance(given, dict):
        if study.expand != "random":
            raise RecipeError(f"axes.{name}: a range is drawn from; that is expand = 'random'")
        try:
            return Range.model_validate(given)
        except ValidationError as error:
            raise RecipeError(f"axes.{name}: {explained(error, Range)}") from None
    values = given if isinstance(given, (list, tuple)) else [given]
    if not values:
        raise RecipeError(f"axes.{name} is empty, so there is no run; name its values in a list")
    whole = tuple(tuple(value) if isinstance(value, list) else value for value in values)
    for value in whole:
        parts = value if isinstance(value, tuple) else (value,)
        if not parts or not all(isinstance(part, (str, int, float, bool)) for part in parts):
            raise RecipeError(f"axes.{name}: expected texts, numbers, true or false, not {brief(value)}")
    if study.expand != "list" and len({repr(value) for value in whole}) < len(whole):
        raise RecipeError(f"axes.{name}: a value is named twice")
    return whole


def _words(axes: Mapping[str, tuple[Value, ...] | Range], base: AnyRecipe) -> tuple[str, ...]:
    """The axes that stand in the names of architectures.

    Raises:
        RecipeError: an axis is neither such a word nor a setting of the recipe, or a word has no axis.
    """
    if not axes:
        raise RecipeError("axes: there is none; name at least one, for instance architecture = [...]")
    known = [name for name in settings_of(type(base)) if name != SEED]
    named = axes.get("architecture", ())
    texts = [] if isinstance(named, Range) else [str(value) for value in named]
    _check_length("architecture", texts)
    words = list(dict.fromkeys(word for text in texts for word in placeholders(text)))
    if absent := [word for word in words if word not in axes]:
        raise RecipeError(f"axes.architecture: {{{absent[0]}}} is no axis.{did_you_mean(absent[0], list(axes))}")
    for name, values in axes.items():
        if name == SEED:
            raise RecipeError("axes.train.seed: seeds are named by the key `seeds`, which the table averages over")
        if name not in known and name not in words:
            stands = "" if "." in name else f", nor does {{{name}}} stand in axes.architecture"
            raise RecipeError(
                f"axes.{name}: the recipe has no such setting{stands}.{did_you_mean(name, [*known, *words])}"
            )
        if name in words and isinstance(values, Range):
            raise RecipeError(f"axes.{name}: a word of an architecture can't be a range")
        if name in words:
            _check_length(name, values)
    return tuple(words)


def _check_length(name: str, values: Iterable[Value]) -> None:
    """Few characters with many words in them would be very many."""
    if longest := next((value for value in values if len(str(value)) > _LONGEST), None):
        raise RecipeError(f"axes.{name}: an architecture has at most {_LONGEST} characters, not as {brief(longest)}")
