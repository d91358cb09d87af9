"""Annotations in COCO's format: mutated files, read by mmdet and measured by pycocotools where they are accepted."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from sapool.boxes.coco import check_dataset, find_dataset
from sapool.recipes.detection import DetectionData
from tests.hostile import Kind
from tests.hostile.plans import mutate

_BOX = {"iscrowd": 0, "bbox": [1, 1.5, 10, 12], "area": 120}
WHOLE: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 32} for n in (1, 2, 3)],
    "annotations": [{"id": n, "image_id": 1 + n % 3, "category_id": 1 + n % 2, **_BOX} for n in range(1, 7)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog", "supercategory": "animal"}],
}


NAMES = (1, None, ["x"], "", "a\0b", "\ud800", "x" * 5000, "a\x1b[2J")


def changed(**lists: Any) -> str:
    return json.dumps({**WHOLE, **lists})


PLACES: dict[str, tuple[Any, ...]] = {
    "id": (0, -1, 1, 2, 10**20, 1.0, 1.5, "1", None, True, [1], {"a": 1}, float("nan")),
    "image_id": (0, 1, 2, 3, 4, -1, "1", None, [1], 2**70, 1.0, True),
    "category_id": (0, 1, 2, 3, 99, -5, "1", None, [1], 2**70, True),
    "bbox": (
        *(
            [0, 0, 0, 0],
            [0, 0, -1, 5],
            [31, 31, 1, 1],
            [31.999, 31.999, 1e-9, 1e-9],
            [-5, -5, 100, 100],
            [1, 1, 2, 2, 3],
        ),
        *([1e308, 1e308, 1e308, 1e308], [0, 0, 10**400, 1], [True, 1, 1, 1], "1 1 2 2", [[1, 1, 2, 2]], [None] * 4),
    ),
    "area": (0, -1, 1e308, None, "9", [], 10**400, float("inf")),
    "iscrowd": (0, 1, 2, -1, None, "0", True, [], 0.5),
    "file_name": (
        *("../1.png", "/etc/hostname", "1.png/", ".", "..", "", "http://127.0.0.1:9/zzcanary", "s3://zzcanary/x.png"),
        *("zzcanary.png", "1.png\n", "1\x00.png", "\ud800.png", "x" * 5000, 3, None, ["1.png"], "1.PNG"),
    ),
    "width": (0, -1, 31, 33, 1, 10**9, 32.0, 32.5, "32", None, True, float("nan")),
    "height": (0, -1, 31, 33, 1, 10**9, 32.0, 32.5, "32", None, True),
    "name": ("cat", "dog", "", " ", "a\nb", "\x1b[2J", "\u202eevil", "x" * 5000, 3, None, ["cat"], "[bold]x", "{0}%s"),
    "segmentation": (
        *(
            [],
            [[]],
            [[1, 1]],
            [[1, 1, 2, 2, 3, 3]],
            {"counts": "x", "size": [32, 32]},
            {"counts": [1], "size": [1e9, 1]},
        ),
        *("zzcanary", None, 3, [[float("nan")] * 6], {"counts": [-1, 2], "size": [32, 32]}, {}),
    ),
    "seg_map_path": ("zzcanary.png",),
    "ignore": (0, 1, None, "x"),
}
"""What stands in the fields of an annotation file, and could."""


def with_odd_fields(random: Random, data: dict[str, Any]) -> dict[str, Any]:
    """Annotations some of whose entries have other values, come twice, or are gone."""
    made: dict[str, Any] = json.loads(json.dumps(data))
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        entries = made[random.choice(list(made))]
        if not entries:
            continue
        entry = random.choice(entries)
        match random.randrange(8):
            case 0:
                entries.append(dict(entry))
            case 1:
                entries.remove(entry)
            case 2:
                entry.pop(random.choice(list(entry)), None)
                if not entry:
                    entries.remove(entry)
            case 3:
                key = random.choice(list(PLACES))
                entry[key] = random.choice(PLACES[key])
            case _:
                key = random.choice([key for key in entry if key in PLACES] or ["id"])
                entry[key] = random.choice(PLACES[key])
    return made


def some_annotations(random: Random, folder: Path) -> str:
    data: Any = WHOLE
    if random.random() < 0.6:
        return json.dumps(with_odd_fields(random, WHOLE))
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        data = mutate(random, data)
    text = json.dumps(data)
    if random.random() < 0.1:
        at = random.randrange(len(text))
        text = (
            text[:at]
            + random.choice(("", "9" * 4400, "NaN", "-Infinity", "[" * 9000, "\\ud800", "\0"))
            + text[at + 1 :]
        )
    return text


def trained_on(given: str, folder: Path) -> None:
    """mmdet loads what is accepted with its labels in range, and perfect boxes can be measured on it."""
    importlib.import_module("sapool.detect")  # which makes mmdet importable
    from mmdet.datasets import CocoDataset  # noqa: PLC0415 - seconds
    from pycocotools.coco import COCO  # noqa: PLC0415
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

    path = folder / "annotations.json"
    path.write_text(given, encoding="utf-8", errors="surrogatepass")
    for n in (1, 2, 3):
        Image.new("RGB", (32, 32)).save(folder / f"{n}.png")
    dataset = find_dataset(
        DetectionData(
            name="coco_folder", root=str(folder), train_annotations=path.name, train_images="",
            val_annotations=path.name, val_images="",
        )
    )  # fmt: skip
    counts = check_dataset(dataset, 1)
    with contextlib.redirect_stdout(io.StringIO()):
        read = CocoDataset(
            ann_file=str(path), data_prefix={"img": str(folder)}, metainfo={"classes": dataset.classes}, pipeline=[],
            test_mode=True,
        )  # fmt: skip
        assert len(read) == counts[1]
        for index in range(len(read)):
            labels = [box["bbox_label"] for box in read.get_data_info(index)["instances"]]
            assert all(0 <= label < len(dataset.classes) for label in labels)
        boxes = [{**entry, "score": 1.0} for entry in json.loads(given)["annotations"]]
        truth = COCO(str(path))
        measured = COCOeval(truth, truth.loadRes(boxes), "bbox")
        measured.evaluate()
        measured.accumulate()


KINDS = (
    Kind(
        "annotations",
        make=some_annotations,
        judge=trained_on,
        corpus=(
            *("", "[]", "{}", "[" * 20_000, '{"images": ' * 5000, "9" * 5000),
            changed(categories=[{"name": "cat"}]),
            *(changed(categories=[{"id": bad, "name": "cat"}]) for bad in ([1], {"a": 1}, "1", 1.5, None, 10**300)),
            *(changed(categories=[{"id": 1, "name": bad}]) for bad in NAMES),
            *(changed(images=[{**WHOLE["images"][0], "file_name": bad}]) for bad in NAMES),
            *(changed(images=[{**WHOLE["images"][0], "width": bad}]) for bad in (0, -1, "3", 1e300, float("nan"))),
            *(changed(annotations=[{"id": 1, "image_id": 1, "category_id": 1, **_BOX, "bbox": bad}]) for bad in (
                None, [], [1, 2, 3], [1, 2, 3, "4"], [0, 0, 1e308, 1e308], [0, 0, float("inf"), 1], {"x": 1})),
            changed(annotations=[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}]),
            changed(annotations=[{"id": [1], "image_id": {}, "category_id": 1, **_BOX}]),
            changed(categories=[*WHOLE["categories"], {"id": 3, "name": "cat"}]),
        ),
        rounds=50,
        quick=0,
    ),
) if find_spec("mmdet") else ()  # fmt: skip
