"""Plans in files: the current format, and the one before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapool.digests import KEY, check_text, remark
from sapool.errors import InputError
from sapool.ir.options import Dialect
from sapool.ir.plan import FORMAT, Plan

EARLIER = "sapool-plan-2"
SUFFIX = ".json"
_ORIGIN = "as `sapoolc compile TEXT -o plan.json` writes it"


@dataclass(frozen=True)
class EarlierPlan:
    """A plan of the format before this one, which didn't hold what was found in the backbone.

    Attributes:
        architecture: what was planned.
        options: as `sapool.ir.options.Options` takes them.
        sites: each site's name, stride, and pooling (kind, heads, patch, window, each None where there is none).
    """

    architecture: str
    options: dict[str, Any]
    sites: tuple[dict[str, Any], ...]


def is_plan_file(text: str) -> bool:
    """Whether a word of the command line or of a recipe names a plan's file, and is no architecture."""
    return text.endswith(SUFFIX)


def read_text(path: str | Path) -> str:
    """A file's text, its digest checked.

    Raises:
        InputError: it can't be read, isn't text, or is damaged.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} isn't a plan: it isn't text") from None
    except ValueError:
        raise InputError(f"{path} can't be read: no file has such a name") from None
    if not check_text(text, path):
        remark(path)
    return text


def from_json(text: str, source: str = "this") -> Plan | EarlierPlan:
    """Reads what `Plan.to_json` wrote; `source` is for messages. What the plan says is not yet checked.

    Raises:
        InputError: the text isn't a plan; names the field.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - plans are made more often than read

    check_text(text, source)
    try:
        data = json.loads(text)
        name = data.pop("format")
        data.pop(KEY, None)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise _no_plan(source) from None
    if name not in (FORMAT, EARLIER):
        raise _no_plan(source)
    kind: type[Any] = Plan if name == FORMAT else _Earlier
    try:
        made = TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        where = ".".join(_part(data, first["loc"], place) for place in range(len(first["loc"])))
        said = str(cause) if cause is not None else first["msg"][0].lower() + first["msg"][1:]
        raise InputError(f"{source} isn't a plan: {where}: {said}") from None
    except (InputError, RecursionError, ValueError) as error:
        raise InputError(f"{source} isn't a plan: {error}") from None
    assert isinstance(made, (Plan, _Earlier))
    return made.plan() if isinstance(made, _Earlier) else made


def _part(data: Any, path: tuple[int | str, ...], place: int) -> str:
    """One step of a path, a site by its name."""
    if place == 1 and path[0] == "sites" and isinstance(path[1], int):
        try:
            return str(data["sites"][path[1]]["name"])
        except (KeyError, TypeError, IndexError):
            pass
    return str(path[place])


def _no_plan(source: str) -> InputError:
    return InputError(f"{source} isn't a plan: expected the JSON of format '{FORMAT}', {_ORIGIN}")


@dataclass(frozen=True)
class _Earlier:
    """What is still used of the earlier format."""

    architecture: str
    backbone: str
    dialect: Dialect
    num_classes: int
    image_size: int
    features_only: bool
    out_indices: tuple[int, ...] | None
    sites: tuple[dict[str, Any], ...]

    def plan(self) -> EarlierPlan:
        names = ("dialect", "num_classes", "image_size", "features_only", "out_indices")
        wanted = ("name", "stride", "kind", "heads", "patch", "window")
        sites = tuple({name: site.get(name) for name in wanted} for site in self.sites)
        return EarlierPlan(self.architecture, {name: getattr(self, name) for name in names}, sites)
