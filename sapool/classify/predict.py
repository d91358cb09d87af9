"""`sapoolc predict`: what a run's best model sees in images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from sapool.cli.tables import console, show_table
from sapool.runs.folder import model_of
from sapool.runs.images import read_pictures

BATCH = 32


def predict(path: str | Path, images: Sequence[str], *, top: int = 3, as_json: bool = False) -> int:
    """Prints the most probable classes of each image.

    Args:
        path: the run's folder.
        images: files.
        top: how many classes of each.
        as_json: print JSON in place of a table.

    Raises:
        InputError: no run, no checkpoint, or an image that can't be read.
    """
    model, recipe, classes, _ = model_of(path)
    found: list[dict[str, object]] = []
    for first in range(0, len(images), BATCH):
        chunk = images[first : first + BATCH]
        _, x = read_pictures(chunk, recipe.data)
        with torch.inference_mode():
            probabilities, indices = model(x).softmax(1).topk(min(top, len(classes)))
        for name, values, places in zip(chunk, probabilities.tolist(), indices.tolist(), strict=True):
            ranked = [{"class": classes[i], "probability": round(p, 6)} for i, p in zip(places, values, strict=True)]
            found.append({"image": name, "classes": ranked})
    if as_json:
        print(json.dumps(found, indent=2))  # noqa: T201
        return 0
    rows = [
        (str(entry["image"]), *(f"{c['class']} {c['probability']:.4f}" for c in entry["classes"]))  # type: ignore[attr-defined]
        for entry in found
    ]
    show_table(console(), ("image", *(f"{n + 1}." for n in range(len(rows[0]) - 1))), rows)
    return 0
