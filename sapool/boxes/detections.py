"""Boxes that a detector finds in images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sapool.errors import visible
from sapool.runs.results import Predictions, Table


@dataclass(frozen=True)
class Box:
    """A predicted box.

    Attributes:
        label: name of its class.
        score: from 0 to 1.
        corners: x1, y1, x2, y2 in pixels of the image.
    """

    label: str
    score: float
    corners: tuple[float, float, float, float]


@dataclass(frozen=True)
class Detections(Predictions):
    """The boxes of each image.

    Attributes:
        boxes: of each image, best first.
        threshold: the lowest score among them that was asked for.
        folder: where they are drawn, or None.
    """

    boxes: tuple[tuple[Box, ...], ...]
    threshold: float
    folder: Path | None = None

    def report(self) -> tuple[Table | str, ...]:
        rows = tuple(
            (image, box.label, f"{box.score:.4f}", *(f"{edge:.1f}" for edge in box.corners))
            for image, boxes in zip(self.images, self.boxes, strict=True)
            for box in boxes
        )
        table = Table(("image", "class", "score", "left", "top", "right", "bottom"), rows)
        drawn = f"drawn in {visible(str(self.folder))}, boxes with a score of at least {self.threshold:g}"
        return (table,) if self.folder is None else (table, drawn)

    def as_data(self) -> list[dict[str, Any]]:
        pairs = zip(self.images, self.boxes, strict=True)
        return [{"image": image, "boxes": [asdict(box) for box in boxes]} for image, boxes in pairs]
