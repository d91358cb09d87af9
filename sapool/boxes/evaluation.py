"""What a detector is worth: COCO's average precision, of all classes and of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sapool.runs.results import Evaluation, Table

# COCO's names for what its evaluation prints.
FIGURES = {
    "bbox_mAP": "AP, IoU 0.50 to 0.95",
    "bbox_mAP_50": "AP at IoU 0.50",
    "bbox_mAP_75": "AP at IoU 0.75",
    "bbox_mAP_s": "AP of small objects",
    "bbox_mAP_m": "AP of medium objects",
    "bbox_mAP_l": "AP of large objects",
}


@dataclass(frozen=True)
class DetectorEvaluation(Evaluation):
    """Average precisions on the validation images: the `FIGURES`, and that of each class.

    Attributes:
        architecture, detector, data: what was measured on what.
    """

    architecture: str
    detector: str
    data: str

    def as_data(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "detector": self.detector,
            "data": self.data,
            "validation_images": self.images,
            "epoch": self.epoch,
            **self.scores,
            "per_class": dict(self.per_class),
        }

    def report(self) -> tuple[Table | str, ...]:
        where = f"{self.images} validation images of {self.data}"
        title = f"{self.architecture} in {self.detector}, epoch {self.epoch}, {where}"
        figures = tuple((FIGURES[name], _shown(value)) for name, value in self.scores.items())
        classes = tuple((name, _shown(value)) for name, value in self.per_class.items())
        return (
            Table(("figure", "value"), figures, title),
            Table(("class", "AP"), classes, "per class, IoU 0.50 to 0.95"),
        )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
