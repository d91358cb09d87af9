"""What a file of annotations in COCO's format has to hold, checked before mmdet and pycocotools read it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sapool.errors import InputError, brief, first_line

_NUMBER = Field(ge=-(2**53), le=2**53)  # what JSON's readers agree on
_LARGEST = 1 << 20


def _text(value: str) -> str:
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        raise ValueError("expected text without control characters and halves of characters")
    return value


Id = Annotated[int, _NUMBER]
Name = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_text)]
Side = Annotated[float, Field(ge=1, le=_LARGEST)]
Edge = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]


class _Part(BaseModel):
    """Of an entry what is used; what else it has is ignored, as everybody's annotations have more."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Category(_Part):
    """A class of objects."""

    id: Id
    name: Name


class AnnotatedImage(_Part):
    """An image file; under its folder."""

    id: Id
    file_name: Name
    width: Side
    height: Side


class Box(_Part):
    """An object: its left and upper edge, width and height, in pixels, and what pycocotools counts it by."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[Edge, Edge, Edge, Edge]
    area: Annotated[float, Field(ge=0, le=_LARGEST**2)]
    iscrowd: Annotated[int, Field(ge=0, le=1)]


class Annotations(_Part):
    """A whole file.

    Attributes:
        images, annotations, categories: its lists.
    """

    images: list[AnnotatedImage]
    annotations: list[Box]
    categories: Annotated[list[Category], Field(min_length=1)]

    @property
    def classes(self) -> list[str]:
        """Names of the categories, in the order of the file."""
        return [category.name for category in self.categories]

    def used(self, classes: Collection[str]) -> set[int]:
        """The images that have boxes of some classes."""
        chosen = {category.id for category in self.categories if category.name in classes}
        return {box.image_id for box in self.annotations if box.category_id in chosen}


def read_annotations(path: Path) -> Annotations:
    """The annotations in a file.

    Raises:
        InputError: it can't be read, isn't COCO's, or contradicts itself; names the entry.
    """
    try:
        content = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise InputError(
            f"the annotations {path} can't be read: {error.strerror}; data.root and data.train_annotations, "
            "data.val_annotations say where they are"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the annotations {path} aren't COCO's: they aren't JSON ({first_line(error)})") from None
    try:
        found = Annotations.model_validate(_lists(content))
    except ValidationError as error:
        raise InputError(f"the annotations {path} aren't COCO's: {_explain(error)}") from None
    _check(found, path)
    return found


def _lists(content: Any) -> Any:
    """Boxes are lists in JSON, and four numbers here."""
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        return content
    boxes = [
        {**entry, "bbox": tuple(entry["bbox"])}
        if isinstance(entry, dict) and isinstance(entry.get("bbox"), list)
        else entry
        for entry in content["annotations"]
    ]
    return {**content, "annotations": boxes}


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    if not problem["loc"]:
        return "expected an object with the lists images, annotations, categories"
    place, *inner = problem["loc"]
    where = f"{place}[{inner[0]}]" if inner else str(place)
    name = ".".join(str(part) for part in inner[1:])
    if problem["type"] == "missing":
        return f"{where} has no {name}" if name else f"the list {where} is missing"
    said = problem["msg"].removeprefix("Value error, ")
    return f"{where}{'.' + name if name else ''}: {said[0].lower()}{said[1:]}, not {brief(problem['input'])}"


def _check(found: Annotations, path: Path) -> None:
    for what, values in (
        ("images have the id", (image.id for image in found.images)),
        ("annotations have the id", (box.id for box in found.annotations)),
        ("categories have the id", (category.id for category in found.categories)),
        ("categories have the name", found.classes),
    ):
        if (twice := _first_repeated(values)) is not None:
            raise InputError(f"the annotations {path} don't fit together: two {what} {twice!r}")
    images, categories = {image.id for image in found.images}, {category.id for category in found.categories}
    for number, box in enumerate(found.annotations):
        if box.image_id not in images or box.category_id not in categories:
            raise InputError(
                f"the annotations {path} don't fit together: annotation {number} has image_id {box.image_id} and "
                f"category_id {box.category_id}; expected an image and a category of the file"
            )


def _first_repeated(values: Iterable[int | str]) -> int | str | None:
    seen: set[int | str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
