"""`sapoolc evaluate` of a detector's run: COCO's average precision, of all classes and of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sapool.cli.tables import console, show_table
from sapool.detect.binding.config import bind
from sapool.detect.checkpoints import best_of
from sapool.detect.data.coco import check, find
from sapool.detect.loaded import load_into
from sapool.detect.progress import make_runner, quietly
from sapool.recipes.detection import DetectionRecipe
from sapool.weights.atomic import write_text

# COCO's names for what its evaluation prints.
FIGURES = {
    "bbox_mAP": "AP, IoU 0.50 to 0.95",
    "bbox_mAP_50": "AP at IoU 0.50",
    "bbox_mAP_75": "AP at IoU 0.75",
    "bbox_mAP_s": "AP of small objects",
    "bbox_mAP_m": "AP of medium objects",
    "bbox_mAP_l": "AP of large objects",
}


def evaluate(path: str | Path, recipe: DetectionRecipe, *, as_json: bool = False) -> int:
    """Measures the best model of a run on its validation images; writes `evaluation.json` into the run.

    Args:
        path: the run's folder.
        recipe: its recipe.
        as_json: print JSON in place of tables.

    Raises:
        InputError: no checkpoint, or no data.
    """
    folder = Path(path)
    best = best_of(folder)
    with quietly():
        boxes = find(recipe.data)
        images = check(boxes, 1)[1]
        bound = bind(recipe, boxes, folder / "evaluation")
        runner = make_runner(bound.config)
        epoch = load_into(runner.model, best, recipe)
        metrics = runner.test()
    # mmdet leaves a figure out where no box is of its kind, or gives -1 or NaN.
    content: dict[str, Any] = {
        "architecture": recipe.architecture,
        "detector": Path(recipe.detector.base).stem,
        "data": recipe.data.name,
        "validation_images": images,
        "epoch": epoch,
        **{name: _figure(metrics, name) for name in FIGURES},
        "per_class": {name: _figure(metrics, f"{name}_precision") for name in boxes.classes},
    }
    write_text(folder / "evaluation.json", json.dumps(content, indent=2) + "\n")
    if as_json:
        print(json.dumps(content, indent=2))  # noqa: T201
        return 0
    out = console()
    where = f"{images} validation images of {recipe.data.name}"
    head = f"{recipe.architecture} in {content['detector']}, epoch {epoch}, {where}"
    show_table(out, ("figure", "value"), [(title, _shown(content[n])) for n, title in FIGURES.items()], title=head)
    out.print()
    rows = [(name, _shown(value)) for name, value in content["per_class"].items()]
    show_table(out, ("class", "AP"), rows, title="per class, IoU 0.50 to 0.95")
    return 0


def _figure(metrics: dict[str, float], name: str) -> float | None:
    value = float(metrics.get(f"coco/{name}", -1))
    return round(value, 4) if value >= 0 else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
