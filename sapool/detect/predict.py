"""`sapoolc predict` of a detector's run: boxes in images, listed and drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sapool.cli.tables import console, show_table
from sapool.detect.drawing import drawn, file_names, make_folder, save
from sapool.detect.loaded import open_run, predict_boxes, read_pictures
from sapool.detect.progress import quietly
from sapool.recipes.detection import DetectionRecipe


def predict(
    path: str | Path,
    recipe: DetectionRecipe,
    images: Sequence[str],
    *,
    threshold: float = 0.3,
    output: str | Path | None = None,
    as_json: bool = False,
) -> int:
    """Prints the boxes of each image, and draws them.

    Args:
        path: the run's folder.
        recipe: its recipe.
        images: files.
        threshold: the lowest score of a box that is shown.
        output: where the drawings go; None for `predictions` in the run.
        as_json: print JSON in place of a table.

    Raises:
        InputError: no checkpoint, an image that can't be read, or a folder that can't be made.
    """
    pictures = read_pictures(images)
    with quietly():
        opened = open_run(path, recipe)
        found = [predict_boxes(opened, picture, threshold) for picture in pictures]
    folder = Path(output) if output is not None else Path(path) / "predictions"
    make_folder(folder)
    for picture, boxes, name in zip(pictures, found, file_names(images), strict=True):
        save(drawn(picture, boxes, opened.classes), folder / name)
    if as_json:
        entries = zip(images, found, strict=True)
        content = [{"image": image, "boxes": [asdict(box) for box in boxes]} for image, boxes in entries]
        print(json.dumps(content, indent=2))  # noqa: T201
        return 0
    rows = [
        (image, box.label, f"{box.score:.4f}", *(f"{edge:.1f}" for edge in box.corners))
        for image, boxes in zip(images, found, strict=True)
        for box in boxes
    ]
    out = console()
    show_table(out, ("image", "class", "score", "left", "top", "right", "bottom"), rows)
    out.print(f"\ndrawn in {folder}, boxes with a score of at least {threshold:g}", markup=False)
    return 0
