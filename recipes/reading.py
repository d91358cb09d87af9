"""Reading recipes: TOML, `extends`, overrides, and the sentences that say what is wrong with one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sapool import recipes
from sapool.digests import check_text
from sapool.errors import InputError, RecipeError, brief, did_you_mean, first_line, some_of
from sapool.grammar import parse
from sapool.ir.plan_file import SUFFIX, is_plan_file
from sapool.recipes.detection import DetectionRecipe
from sapool.recipes.settings import Recipe
from sapool.recipes.spelling import setting_called, settings_of

__all__ = ["AnyRecipe", "DetectionRecipe", "Recipe", "flat", "read_recipe", "schema", "to_toml"]

_TOLD = 5  # of all that is wrong
_DEEPEST = 32  # chain of recipes

AnyRecipe = Recipe | DetectionRecipe
"""A recipe of either kind. One with a section `detector` trains a detector, others train a classifier."""


def read_recipe(source: str, overrides: Sequence[str] = (), *, of_run: bool = False) -> AnyRecipe:
    """Reads a recipe and applies overrides such as `train.epochs=5`.

    A recipe that says `extends = "NAME"` (a shipped recipe) or `extends = "FILE.toml"` (beside it) takes that one's
    settings where it gives none.

    Args:
        source: the path of a TOML file, or the name of a shipped recipe.
        overrides: `key=value`, dots between a section and its setting; values as in TOML, bare words as strings.
        of_run: whether it is a run's own, which is data of somebody's and gets no other file opened.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown setting, or a value that can't be used.
    """
    data = _load(source, (), of_run=of_run)
    for override in overrides:
        _apply(data, override)
    for name in ("title", "notes"):  # ours
        if name in data:
            hint = " A recipe is called as its file is." if name == "title" else ""
            raise RecipeError(f"{source}: unknown setting '{name}'.{hint}")
    kind = DetectionRecipe if "detector" in data else Recipe
    notes = _fitted_warmup(data, overrides)
    try:
        return kind.model_validate({**data, "title": Path(source).stem, "notes": notes})
    except ValidationError as error:
        raise RecipeError(f"{source}: {explained(error, kind)}") from None


def explained(error: ValidationError, kind: type[BaseModel]) -> str:
    """What pydantic found wrong in a kind of recipe, in sentences: the first few, and how many more."""
    problems = error.errors(include_url=False)
    told = [_explain(problem, kind) for problem in problems[:_TOLD]]
    return some_of([*told, *([""] * (len(problems) - len(told)))], _TOLD)


def to_toml(recipe: AnyRecipe) -> str:
    """The recipe with every setting resolved, as TOML that `read_recipe` reads back."""
    tables = recipe.model_dump(mode="json", exclude_none=True)
    top = [f"{key} = {_toml(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    sections = [
        "\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())])
        for name, table in tables.items()
        if isinstance(table, dict)
    ]
    return "\n\n".join(["\n".join(top), *sections]) + "\n"


def flat(recipe: AnyRecipe) -> dict[str, Any]:
    """Every setting under its dotted name."""
    settings: dict[str, Any] = {}
    for key, value in recipe.model_dump(mode="json").items():
        if isinstance(value, dict):
            settings |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            settings[key] = value
    return settings


def schema() -> dict[str, Any]:
    """A JSON schema of recipe files, for editors that complete and check TOML."""
    kinds = [_schema(Recipe, "Data"), _schema(DetectionRecipe, "DetectionData")]
    parts = {name: part for made in kinds for name, part in made.pop("$defs").items()}
    names = ("Classification", "Detection")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sapool recipe",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        "$defs": {**parts, **dict(zip(names, kinds, strict=True))},
    }


def _schema(kind: type[BaseModel], data: str) -> dict[str, Any]:
    """The schema of one kind of recipe, whose section of data is called `data`."""
    made = kind.model_json_schema()
    del made["properties"]["title"], made["properties"]["notes"]
    made["properties"]["extends"] = {
        "type": "string",
        "description": "a shipped recipe's name, or a .toml file beside this one, whose settings hold where this file "
        "gives none",
    }
    # What is required may come from the recipe that is extended.
    required = made.pop("required")
    made["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    for name, part in made["$defs"].items():
        if name in (data, "Detector"):
            part.pop("required", None)
    for setting in made["$defs"][data]["properties"].values():
        if "default:" in setting.get("description", ""):  # the data set's, where the file gives none
            setting.pop("default", None)
    return made


def _load(source: str, extended_by: tuple[str, ...], *, of_run: bool = False) -> dict[str, Any]:
    """A recipe's settings with those of what it extends under them."""
    is_path = source.endswith(".toml") or "/" in source
    try:
        name = str(Path(source).resolve()) if is_path else source
    except (OSError, RuntimeError, ValueError):  # links in a circle; NUL
        raise RecipeError(f"the recipe {source} can't be read: no file can be reached by that name") from None
    if len(extended_by) == _DEEPEST:
        raise RecipeError(f"{extended_by[0]}: more than {_DEEPEST} recipes extend each other")
    if name in extended_by:
        raise RecipeError(f"{source} extends itself: {' -> '.join([*extended_by, name])}")
    if not is_path and source not in recipes.names():
        is_path = _is_folder(source)  # which isn't read either
        _check_no_architecture(source)
    data = _parse(_read(source) if is_path else recipes.text(source), source)
    network, base = data.get("architecture"), data.pop("extends", None)
    if of_run and (base not in (None, *recipes.names()) or str(network).endswith(SUFFIX)):
        raise RecipeError(f"{source} is a run's recipe, which is whole: it can't take anything from another file")
    if is_path and isinstance(network, str) and is_plan_file(network):  # beside the recipe
        data["architecture"] = str(Path(source).parent / Path(network).expanduser())
    if base is None:
        return data
    if not isinstance(base, str):
        raise RecipeError(f"{source}: extends: expected a recipe's name or path, not {base!r}")
    if is_path and base.endswith(".toml"):
        base = str(Path(source).parent / base)
    return _merged(_load(base, (*extended_by, name)), data)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # no file can have such a name
        return False


def _check_no_architecture(text: str) -> None:
    """Says what to do with an architecture in place of a recipe."""
    try:
        parse(text)
    except InputError:
        return
    raise RecipeError(
        f"'{text}' is an architecture, and no recipe; a recipe says on what it is trained: sapoolc train digits "
        f"architecture={text}"
    )


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else f"\\{c}" if c in '"\\' else c for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


def _read(path: str) -> str:
    if _is_folder(path):
        raise RecipeError(
            f"{path} is a folder, and no recipe; your own images are trained on by: sapoolc train folder "
            f"data.root={path}"
        )
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise RecipeError(f"the recipe {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"the recipe {path} isn't text") from None
    except ValueError:
        raise RecipeError(f"the recipe {path} can't be read: no file has such a name") from None
    check_text(text, path)  # a run's has a digest
    return text


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, too; nesting without end
        raise RecipeError(f"{source} isn't TOML: {first_line(error)}") from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)?", key) or "\n" in override or "\r" in override:
        raise RecipeError(f"the override '{override}' isn't of the form key=value, for instance train.epochs=5")
    *sections, name = key.split(".")
    for section in sections:
        inner = data.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"the override '{override}': '{section}' is a setting, not a section")
        data = inner
    data[name] = _value(value)


def _fitted_warmup(data: dict[str, Any], overrides: Sequence[str]) -> tuple[str, ...]:
    """Shortens a recipe's warm-up where an override leaves it no room that didn't speak of it; says so."""
    given = {override.partition("=")[0] for override in overrides}
    train, schedule = data.get("train"), data.get("schedule", {})
    epochs = train.get("epochs") if isinstance(train, dict) else None
    warmup = schedule.get("warmup_epochs", 0) if isinstance(schedule, dict) else 0
    if "train.epochs" not in given or "schedule.warmup_epochs" in given or type(epochs) is not int:
        return ()
    if not isinstance(warmup, (int, float)) or not 0 < epochs <= warmup:
        return ()
    schedule["warmup_epochs"] = shorter = epochs / 10
    return (
        f"schedule.warmup_epochs is {shorter:g} in place of the recipe's {warmup:g}, which leaves nothing of "
        f"train.epochs={epochs}",
    )


def _value(text: str) -> Any:
    """One value of TOML; text where it is none, such as words, and what has a comment behind it."""
    try:
        alone, first = (tomllib.loads(f"value = [{text}{end}]")["value"] for end in ("", "\n"))
    except (ValueError, RecursionError):
        return text
    return alone[0] if len(alone) == 1 and repr(alone) == repr(first) else text  # NaN isn't equal to itself


def _explain(problem: Any, kind: type[BaseModel]) -> str:
    """One sentence for one of pydantic's errors about a kind of recipe."""
    place = [str(part) for part in problem["loc"]]
    name = ".".join(place)[:200]
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {brief(name)}." + _nearest_setting(place, kind)
    if problem["type"] == "missing":
        return f"the setting '{name}' is missing"
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return f"{name}: {cause}" if name else str(cause)
    said = re.sub(r"^Input should be |, unable to parse.*", "", str(cause or problem["msg"]))
    if cause is None and said != problem["msg"]:
        said = f"expected {said}"
    where = f"{name}: " if name else ""
    # An error about a whole section would print all of it.
    given = problem["input"]
    told = isinstance(given, dict) or (cause is not None and isinstance(given, str) and brief(given) in said)
    given = list(given) if isinstance(given, tuple) else given
    return f"{where}{said[0].lower()}{said[1:]}" + ("" if told else f", not {brief(given)}")


def _nearest_setting(place: list[str], kind: type[BaseModel]) -> str:
    """The known setting nearest to an unknown one: what others call so, in its own section, then anywhere."""
    full, known = ".".join(place), list(settings_of(kind))
    same = [name for name in known if name.rpartition(".")[0] == ".".join(place[:-1])]
    found = setting_called(place[-1], kind)
    if found is not None:
        return f" Did you mean '{found}'?"
    return did_you_mean(full, same) or did_you_mean(full, known) or f" Known here: {', '.join(same)}."
