"""`digits-detection`: scikit-learn's handwritten digits on larger canvases, with boxes, in COCO's format.

Made on the fly, the same everywhere: sizes, places, colours and backgrounds come from one seed, and the digits of the
validation images are none of those trained with.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sapool.errors import InputError

SIDE = 128
COUNTS = {"train": 600, "val": 150}
SMALLEST, LARGEST = 24, 56  # pixels, of a digit's side
MOST = 4  # digits in an image
TRIES = 20


def ensure(root: Path) -> None:
    """Makes the data set in a folder, unless it is there whole.

    Raises:
        InputError: the folder holds something else, or can't be written to.
    """
    whole = root / "annotations" / "val.json"
    try:
        if whole.exists():  # maybe on a disk that nobody can write to
            return
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.parent / f".{root.name}.lock"):
            for left in root.parent.glob(f".{root.name}.*/"):  # of a process that was killed while it made them
                shutil.rmtree(left, ignore_errors=True)
            if not whole.exists():
                # Beside it, and renamed: what is there is there whole.
                with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as folder:
                    made = Path(folder) / "made"
                    make(made, COUNTS)
                    made.replace(root)
    except OSError as error:
        raise InputError(f"digits-detection can't be made in {root}: {error.strerror}; set data.root") from None


def make(root: Path, counts: dict[str, int], seed: int = 0) -> None:
    """Writes `train` and `val` images and `annotations/train.json`, `annotations/val.json` into a folder.

    Args:
        root: a folder that isn't there yet.
        counts: images of each part.
        seed: of everything random.
    """
    bunch = load_digits()
    halves = train_test_split(np.arange(len(bunch.target)), test_size=360, stratify=bunch.target, random_state=0)
    (root / "annotations").mkdir(parents=True)
    for number, (part, chosen) in enumerate(zip(("train", "val"), halves, strict=True)):
        folder, draw = root / part, np.random.default_rng((seed, number))
        folder.mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(counts[part]):
            canvas, boxes = _compose(draw, bunch.images, bunch.target, chosen)
            name = f"{index:04d}.png"
            Image.fromarray(canvas).save(folder / name)
            images.append({"id": index, "file_name": name, "width": SIDE, "height": SIDE})
            for digit, (x, y, width, height) in boxes:
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": index, "category_id": digit + 1, "iscrowd": 0,
                     "bbox": [x, y, width, height], "area": width * height}
                )  # fmt: skip
        categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")


def _compose(
    draw: np.random.Generator, glyphs: np.ndarray, labels: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, tuple[int, int, int, int]]]]:
    """A canvas, uint8 (SIDE, SIDE, 3), and its digits with the boxes of their ink: x, y, width, height."""
    canvas = _background(draw)
    taken = np.zeros((SIDE, SIDE), dtype=bool)
    boxes: list[tuple[int, tuple[int, int, int, int]]] = []
    for index in draw.choice(chosen, draw.integers(1, MOST + 1), replace=False):
        side = int(draw.integers(SMALLEST, LARGEST + 1))
        ink = np.asarray(
            Image.fromarray((glyphs[index] / 16).astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
        ).clip(0, 1)
        for _ in range(TRIES):
            left, top = (int(place) for place in draw.integers(0, SIDE - side + 1, 2))
            place = (slice(top, top + side), slice(left, left + side))
            if not taken[place].any():
                break
        else:
            continue  # the canvas is full
        taken[place] = True
        colour = draw.uniform(170, 255, 3)
        canvas[place] += ink[..., None] * (colour - canvas[place])
        rows, columns = np.nonzero(ink.max(1) > 0.25)[0], np.nonzero(ink.max(0) > 0.25)[0]
        x, y = left + int(columns[0]), top + int(rows[0])
        boxes.append((int(labels[index]), (x, y, int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)))
    return canvas.clip(0, 255).astype(np.uint8), boxes


def _background(draw: np.random.Generator) -> np.ndarray:
    """A dim slope of colour from one corner to the other, with noise."""
    slope = np.add.outer(np.arange(SIDE), np.arange(SIDE))[..., None] / (2 * SIDE)
    one, other = draw.uniform(0, 110, 3), draw.uniform(0, 110, 3)
    canvas: np.ndarray = one + slope * (other - one) + draw.normal(0, 8, (SIDE, SIDE, 3))
    return canvas
