"""What a recipe can say, for people to look up: every setting with its type, its default and its meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sapool.recipes.detection import DetectionRecipe
from sapool.recipes.settings import Recipe
from sapool.recipes.spelling import settings_of

KINDS: dict[str, type[BaseModel]] = {"a classifier's recipe": Recipe, "a detector's recipe": DetectionRecipe}
"""Each kind of recipe, by what it is called."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: its dotted name.
        type: what its value can be.
        default: what it is unless given; "" where it must be given or there is none.
        meaning: what it does.
    """

    name: str
    type: str
    default: str
    meaning: str


def reference(kind: type[BaseModel], prefix: str = "") -> list[Setting]:
    """The settings of a kind of recipe, in order; those alone whose names begin with `prefix`."""
    schema = kind.model_json_schema()
    sections = _sections(schema)
    found = []
    for name in settings_of(kind):
        section, _, last = name.rpartition(".")
        if name.startswith(prefix):
            part = sections[section]
            found.append(_setting(name, part["properties"][last], last in part.get("required", ())))
    return found


def _sections(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema of each section, the recipe's own top under ""."""
    found = {"": schema}
    for name, value in schema["properties"].items():
        for option in (value, *value.get("anyOf", ())):
            if "$ref" in option:
                found[name] = schema["$defs"][option["$ref"].rpartition("/")[2]]
    return found


def _setting(name: str, value: dict[str, Any], required: bool) -> Setting:
    meaning = value.get("description", "")
    told = re.search(r" ?\(?default: ([^()]*(?:\([^()]*\))?[^()]*)\)", meaning)
    if told is not None:  # a default that depends on something is told in words
        meaning = (meaning[: told.start()] + meaning[told.end() :]).strip()
        default = told[1]
    else:
        default = "" if required else _value(value.get("default"))
    return Setting(name, _type(value), default, meaning + (" (needed)" if required else ""))


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value)


def _type(value: dict[str, Any]) -> str:
    """A JSON schema's type in words."""
    if "anyOf" in value:
        options = [_type(option) for option in value["anyOf"] if option.get("type") != "null"]
        return ", or ".join(dict.fromkeys(options))
    if "enum" in value:
        return " | ".join(map(str, value["enum"]))
    if "const" in value:
        return str(value["const"])
    kind = value.get("type", "")
    if kind == "array":
        if "prefixItems" in value:
            return f"{len(value['prefixItems'])} {_plural(value['prefixItems'][0])}"
        item = value.get("items", {})
        return f"list of {_type(item)}" if "enum" in item else f"list of {_plural(item)}"
    return {"boolean": "true | false", "string": "text"}.get(str(kind), str(kind)) + _range(value)


def _plural(value: dict[str, Any]) -> str:
    kind = str(value.get("type", ""))
    return ("texts" if kind == "string" else f"{kind}s") + _range(value)


_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def _range(value: dict[str, Any]) -> str:
    words = []
    for key, word in _BOUNDS.items():
        if key in value:
            words.append(f"{word} {value[key]:g}" if value[key] < 10**6 else f"{word} {value[key]:,}")
    return " " + " ".join(words) if words else ""
