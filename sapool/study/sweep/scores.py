"""What a study maximizes of its runs. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sapool.errors import WorkError

SCORES = ("val_accuracy", "selected_on_test_accuracy", "bbox_mAP")
"""Of the images that choose a run's epoch, by its kind."""


def score_of(summary: Mapping[str, Any]) -> float:
    """What a finished run reached on the images that choose its epoch.

    Raises:
        WorkError: its summary doesn't have it.
    """
    for name in SCORES:
        if isinstance(summary.get(name), (int, float)):
            return float(summary[name])
    raise WorkError("the run's summary has no score")


def score_in(row: Mapping[str, str]) -> float | None:
    """What a run reached after an epoch, as its table has it; None of an epoch that wasn't validated."""
    return next((float(row[name]) for name in SCORES if row.get(name)), None)
