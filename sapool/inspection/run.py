"""Everything that a report shows of one run: what it logged, what it reached, and what was drawn of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sapool.digests import read_json
from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.model_file import load
from sapool.recipes.reading import AnyRecipe
from sapool.recipes.settings import Recipe
from sapool.runs.folder import RECIPE, recipe_of
from sapool.runs.networks import compile_network
from sapool.runs.progress import EpochTable

_QUANTITIES = (
    ("loss", ("loss",)),
    ("accuracy", ("accuracy",)),
    ("AP", ("map", "ap_")),
    ("uniformity", ("uniformity",)),
)
"""What a column of the table of epochs measures, by words of its name; what none fits isn't drawn."""
_WIDEST, _QUALITY = 1100, 72
"""Pixels of a sheet on the page, and the quality of its WebP."""
_ASSUMED = 224
"""The side for which a detector's network is measured whose recipe leaves the size of images to its base."""

Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class RunView:
    """A run as a report shows it.

    Attributes:
        name: its folder's.
        architecture, data: what was trained on what.
        recipe: its text, every setting resolved.
        summary: (name, value) of what it reached.
        curves: by what they measure, the (epoch, value) of each metric.
        classes: names, where the run was evaluated.
        confusion: counts, a row a true class, a column a predicted one; none of detectors.
        columns, per_class: a table of each class's figures.
        sheets: (name, data URI) of the heatmaps that were drawn.
        notes: what is missing, a sentence each.
    """

    name: str
    architecture: str
    data: str
    recipe: str
    summary: tuple[tuple[str, str], ...]
    curves: Mapping[str, Mapping[str, Line]]
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    columns: tuple[str, ...] = ()
    per_class: tuple[tuple[str, ...], ...] = ()
    sheets: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def look_at_run(path: str | Path, *, sheets: int = 3) -> RunView:
    """Reads a run's files; nothing is computed.

    Args:
        path: its folder.
        sheets: how many heatmaps are taken in, at most.

    Raises:
        InputError: it holds no run, or a file of it is damaged.
    """
    folder = Path(path)
    recipe = recipe_of(folder)
    summary, evaluation = _read(folder / "summary.json"), _read(folder / "evaluation.json")
    notes = [] if summary else ["This run isn't finished: there is no summary.json."]
    if not evaluation:
        notes.append(f"It wasn't evaluated; sapoolc evaluate {folder} adds figures of each class.")
    drawn = sorted((folder / "heatmaps").glob("*.png"))
    if len(drawn) > sheets:
        notes.append(f"{sheets} of {len(drawn)} sheets of heatmaps are shown.")
    columns, per_class = _classes(evaluation)
    figures = {**summary, **{f"evaluated {name}": value for name, value in evaluation.items()}}
    return RunView(
        name=folder.resolve().name,
        architecture=recipe.architecture,
        data=recipe.data.name,
        recipe=(folder / RECIPE).read_text(encoding="utf-8"),
        summary=tuple((name.replace("_", " "), _shown(value)) for name, value in figures.items() if _plain(value)),
        curves=_curves(EpochTable(folder).rows()),
        classes=tuple(map(str, evaluation.get("per_class") or ())),
        confusion=tuple(map(tuple, evaluation.get("confusion") or ())),
        columns=columns,
        per_class=per_class,
        sheets=tuple((file.stem, _embedded(file)) for file in drawn[:sheets]),
        notes=tuple(notes),
    )


def network_of_run(path: str | Path) -> CompiledModel:
    """The network of a run, without data where that will do.

    Raises:
        InputError: it holds no run, or its network can't be made.
    """
    folder = Path(path)
    recipe: AnyRecipe = recipe_of(folder)
    summary = _read(folder / "summary.json")
    if summary.get("pruned"):
        return load(folder / "model.pt")
    size = recipe.data.image_size or _ASSUMED
    with torch.device("meta"):
        if not isinstance(recipe, Recipe):
            return compile_network(recipe, features_only=True, image_size=size)
        return compile_network(recipe, num_classes=int(summary.get("classes", 1000)), image_size=size)


def _read(file: Path) -> dict[str, Any]:
    """What a JSON file of the run holds; nothing where there is none."""
    try:
        content = read_json(file)
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(f"{file} is damaged: it isn't JSON") from None
    if not isinstance(content, dict):
        raise InputError(f"{file} is damaged: it holds no names and values")
    return content


def _curves(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Line]]:
    found: dict[str, dict[str, Line]] = {}
    names = dict.fromkeys(name for row in rows for name in row)
    for name in names:
        quantity = next((what for what, words in _QUANTITIES if any(word in name.lower() for word in words)), None)
        points = tuple((float(row["epoch"]), float(row[name])) for row in rows if row.get(name) and row.get("epoch"))
        if quantity is not None and points:
            found.setdefault(quantity, {})[name.replace("_", " ")] = points
    return found


def _classes(evaluation: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    scores, counts = evaluation.get("per_class") or {}, evaluation.get("confusion") or []
    if not scores:
        return (), ()
    if len(counts) != len(scores):
        return ("class", "score"), tuple((str(name), _shown(score)) for name, score in scores.items())
    taken = [_most_taken_for(at, row, list(scores)) for at, row in enumerate(counts)]
    rows = zip(scores.items(), counts, taken, strict=True)
    return (
        ("class", "accuracy", "images", "most often taken for"),
        tuple((str(name), _shown(score), f"{sum(row):,}", mistake) for (name, score), row, mistake in rows),
    )


def _most_taken_for(label: int, row: Sequence[int], classes: Sequence[str]) -> str:
    wrong = [(count, at) for at, count in enumerate(row) if at != label and count]
    if not wrong:
        return ""
    count, at = max(wrong)
    return f"{classes[at]} ({count})"


def _plain(value: object) -> bool:
    return not isinstance(value, (dict, list)) or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(value)
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if type(value) is int else "" if value is None else str(value)


def _embedded(file: Path) -> str:
    """A sheet as a data URI, as wide as a page is."""
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except OSError as error:
        raise InputError(f"{file} can't be read as an image: {error}") from None
    picture.thumbnail((_WIDEST, 4 * _WIDEST))
    content = io.BytesIO()
    picture.save(content, format="WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
