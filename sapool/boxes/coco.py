"""Data sets in COCO's format: where they are, which classes they have, and what can be known of their faults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from sapool.boxes import digits
from sapool.catalogue.data_sets import default_root
from sapool.errors import InputError, did_you_mean
from sapool.recipes.detection import PUBLISHED_CLASSES, DetectionData
from sapool.runs.images import check_image

_LISTS = ("images", "annotations", "categories")
READERS = 8


@dataclass(frozen=True)
class AnnotatedImages:
    """Annotated images.

    Attributes:
        annotations: COCO's JSON.
        images: the folder that its file names are relative to.
    """

    annotations: Path
    images: Path


@dataclass(frozen=True)
class BoxDataset:
    """A data set.

    Attributes:
        root: its folder.
        train, val: its parts.
        classes: names in the order of the annotations' categories, in which mmdet numbers them.
    """

    root: Path
    train: AnnotatedImages
    val: AnnotatedImages
    classes: tuple[str, ...]


def find_dataset(data: DetectionData, *, present: bool = True) -> BoxDataset:
    """The data set that a recipe names. Digits are made first, where they aren't there.

    Args:
        data: the recipe's section.
        present: whether it must be there. If not, classes of COCO are known without it.

    Raises:
        InputError: annotations that aren't there or aren't COCO's, or a class that they don't have.
    """
    root = Path(data.root) if data.root else default_root() / data.name
    if data.name == "digits-detection":
        digits.ensure(root)
    train = AnnotatedImages(root / data.train_annotations, root / data.train_images)
    val = AnnotatedImages(root / data.val_annotations, root / data.val_images)
    if not present and data.name == "coco" and not train.annotations.exists():
        return BoxDataset(root, train, val, _chosen(data, _coco(), "COCO"))
    names = _categories(_read(train.annotations), train.annotations)
    return BoxDataset(root, train, val, _chosen(data, names, str(train.annotations)))


def check_dataset(dataset: BoxDataset, batch_size: int) -> tuple[int, int]:
    """Looks for what would go wrong later; returns how many images there are to train and to validate with.

    Raises:
        InputError: annotations that don't fit together, an image that is missing or cut off, too few images.
    """
    counts = []
    for part in (dataset.train, dataset.val):
        content = _read(part.annotations)
        for name in dataset.classes:
            if name not in (names := _categories(content, part.annotations)):
                raise InputError(
                    f"data.classes: {part.annotations} has no category '{name}'." + did_you_mean(name, names)
                )
        used = _check_annotations(content, part.annotations, dataset.classes)
        _check_images(content["images"], part)
        counts.append(used if part is dataset.train else len(content["images"]))
    if counts[0] < batch_size:
        raise InputError(
            f"{dataset.train.annotations}: {counts[0]} images with boxes of these classes don't fill a batch of "
            f"{batch_size} (train.batch_size)"
        )
    return counts[0], counts[1]


def _coco() -> list[str]:
    """COCO's 80 classes, in its order; torchvision's list has gaps where COCO's numbers do."""
    named = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return [name for name in named if name not in ("__background__", "N/A")]


def _chosen(data: DetectionData, names: Sequence[str], where: str) -> tuple[str, ...]:
    wanted = {"all": names, "published": PUBLISHED_CLASSES}.get(data.classes, data.classes)  # type: ignore[arg-type]
    for name in wanted:
        if name not in names:
            raise InputError(
                f"data.classes: {where} has no category '{name}'."
                + did_you_mean(name, names)
                + f" It has: {', '.join(names)}."
            )
    # mmdet numbers classes in the order of the file, whatever the order in which they are named.
    return tuple(name for name in names if name in wanted)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"the annotations {path} can't be read: {error.strerror}; data.root and data.train_annotations, "
            "data.val_annotations say where they are"
        ) from None
    except ValueError as error:
        raise InputError(f"the annotations {path} aren't COCO's: they aren't JSON ({error})") from None
    missing = [name for name in _LISTS if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if missing:
        raise InputError(
            f"the annotations {path} aren't COCO's: expected an object with the lists {', '.join(_LISTS)}, and "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        )
    return dict(content)


def _categories(content: dict[str, Any], path: Path) -> list[str]:
    try:
        names = [str(category["name"]) for category in content["categories"] if "id" in category]
    except (TypeError, KeyError):
        names = []
    if not names:
        raise InputError(f"the annotations {path} aren't COCO's: their categories have no id and name")
    return names


def _check_annotations(content: dict[str, Any], path: Path, classes: Sequence[str]) -> int:
    """How many images have boxes of the classes."""
    categories = {category["id"]: category["name"] for category in content["categories"]}
    try:
        images = {
            image["id"] for image in content["images"] if image["file_name"] and image["width"] and image["height"]
        }
    except (TypeError, KeyError) as error:
        raise InputError(f"the annotations {path} aren't COCO's: an image without {error}") from None
    used = set()
    for number, entry in enumerate(content["annotations"]):
        try:
            image, category, box = entry["image_id"], entry["category_id"], [float(x) for x in entry["bbox"]]
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"the annotations {path} aren't COCO's: annotation {number} without {error}") from None
        if image not in images or category not in categories or len(box) != 4:
            raise InputError(
                f"the annotations {path} don't fit together: annotation {number} has image_id {image}, category_id "
                f"{category} and bbox {box}; expected an image and a category of the file, and x, y, width, height"
            )
        if categories[category] in classes:
            used.add(image)
    return len(used)


def _check_images(images: Sequence[dict[str, Any]], part: AnnotatedImages) -> None:
    # Only their heads and ends are read, unless an end is odd.
    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(check_image, (part.images / image["file_name"] for image in images)):
            pass
