"""The templates of pictures and pages, which escape what they are given."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

# What XML 1.0 can't hold, and what turns the order of letters around.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def rendered(template: str, **values: Any) -> str:
    """A template of this folder, filled; every value is escaped, and characters that can't be seen are `�`."""
    environment = Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["source"] = lambda name: Markup(
        source(name)
    )  # our own script and style, which stand there whole
    environment.filters["script"] = script
    return environment.get_template(template).render(cleaned(values))


def source(name: str) -> str:
    """A file of this folder's `page`."""
    return files("sapool.report").joinpath("page", name).read_text(encoding="utf-8")


def script(value: Any) -> Markup:
    """Data in a `<script type="application/json">`: nothing in it can end that, or begin anything else."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def cleaned(value: Any) -> Any:
    """Plain data whose texts hold only what can be seen, keys too."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return _UNSEEN.sub("�", value)
    if isinstance(value, dict):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(item) for item in value]
    return value
