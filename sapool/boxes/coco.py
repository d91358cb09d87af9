"""Data sets in COCO's format: where they are, which classes they have, and what can be known of their faults."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from sapool.boxes import digits
from sapool.boxes.annotations import Annotations, read_annotations
from sapool.catalogue.data_sets import default_root
from sapool.errors import InputError, did_you_mean, some_of
from sapool.recipes.detection import PUBLISHED_CLASSES, DetectionData
from sapool.runs.images import check_image

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
    names = read_annotations(train.annotations).classes
    return BoxDataset(root, train, val, _chosen(data, names, str(train.annotations)))


def check_dataset(dataset: BoxDataset, batch_size: int) -> tuple[int, int]:
    """Looks for what would go wrong later; returns how many images there are to train and to validate with.

    Raises:
        InputError: annotations that don't fit together, an image that is missing or cut off, too few images.
    """
    counts = []
    for part in (dataset.train, dataset.val):
        content = read_annotations(part.annotations)
        for name in dataset.classes:
            if name not in content.classes:
                raise InputError(
                    f"data.classes: {part.annotations} has no category '{name}'." + did_you_mean(name, content.classes)
                )
        _check_images(content, part)
        counts.append(len(content.used(dataset.classes)) if part is dataset.train else len(content.images))
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
                + f" It has: {some_of(names, 20, ', ')}."
            )
    # mmdet numbers classes in the order of the file, whatever the order in which they are named.
    return tuple(name for name in names if name in wanted)


def _check_images(content: Annotations, part: AnnotatedImages) -> None:
    # Only their heads and ends are read, unless an end is odd.
    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(check_image, (part.images / image.file_name for image in content.images)):
            pass
