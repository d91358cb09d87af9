"""What a run logged, over all its starts, as one table; and what curves show of it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from sapool.runs.curves import Chart, Line

Row = dict[str, float]
UNIFORMITY = "uniformity_"
"""What the names of those metrics begin with; the pool's site follows."""


def rows(folder: Path) -> list[Row]:
    """Everything logged, in order of steps.

    Each start of a run logs to a part of its own. What a part has from its first step on takes the place of what
    earlier parts logged there: those steps were lost with a kill, and done again.
    """
    merged: list[Row] = []
    for part in _parts(folder):
        new = _read(part)
        if new:
            first = min(row["step"] for row in new)
            merged = [row for row in merged if row["step"] < first] + new
    return merged


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "logs" / "csv").glob("version_*"), key=lambda part: int(part.name.removeprefix("version_")))


def _read(part: Path) -> list[Row]:
    file = part / "metrics.csv"
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        found = []
        for line in csv.DictReader(lines):
            try:
                found.append({key: float(value) for key, value in line.items() if key and value})
            except (TypeError, ValueError):
                continue  # the last line of a killed process
        return [row for row in found if "step" in row]


def points(table: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """Steps and values of one metric."""
    return [(row["step"], row[name]) for row in table if name in row]


def best_of(found: Sequence[tuple[float, float]], every: int = 1) -> tuple[float, str] | None:
    """Where a metric is largest for the first time: the step, and the epoch's name; None where it was never measured.

    Args:
        found: the metric's points, one a measurement.
        every: epochs between them.
    """
    if not found:
        return None
    place = max(range(len(found)), key=lambda index: found[index][1])
    return found[place][0], f"best epoch: {(place + 1) * every}"


def uniformities(table: Sequence[Row]) -> Chart:
    """How evenly each pool weighs its pixels, over the steps."""
    names = sorted({key for row in table for key in row if key.startswith(UNIFORMITY)})
    lines = [Line(name.removeprefix(UNIFORMITY), points(table, name), colour) for colour, name in enumerate(names)]
    return Chart("uniformity of pools' weights (1: all alike)", lines, bounds=(0, 1.05))
