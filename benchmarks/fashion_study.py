"""`python -m benchmarks.fashion_study FASHION [START]`: the tables of docs/fashion-study.md, of the studies' folders.

FASHION is the folder of `sapoolc sweep fashion`, START that of `sapoolc sweep fashion-start`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sapool
from sapool.study.differences import Difference, paired
from sapool.study.table import Row, StudyTable, study_table

Scores = dict[int, float]
"""By seed."""
Axes = dict[str, Any]


def interval(gap: Difference) -> str:
    """A paired difference with its 95 % interval, and a star where that excludes 0; in percent."""
    if gap.low is None or gap.high is None:
        return f"{gap.mean:+.1%}"
    return f"{gap.mean:+.1%} [{gap.low:+.1%}, {gap.high:+.1%}]{'*' if gap.clear else ''}"


def scores(table: StudyTable, axes: Axes) -> Scores:
    """What the runs with these values of axes reached."""
    return {
        run.seed: run.metrics[table.score] for run in table.runs if run.metrics and axes.items() <= run.axes.items()
    }


def poolings(table: StudyTable, strides: str) -> Iterable[tuple[str, ...]]:
    """A row for each pooling at one placement, the best first: accuracy, against `skip`, costs, memory, measures."""
    plain = scores(table, {"pool": "skip", "strides": strides})
    rows = [row for row in table.rows if row.mean is not None and row.axes["strides"] == strides]
    for row in sorted(rows, key=lambda row: -(row.mean or 0)):
        pool = row.axes["pool"]
        gap = "" if pool == "skip" else interval(paired(scores(table, row.axes), plain))
        reached = f"{row.mean:.4f} ± {row.std:.4f}" if row.mean is not None and row.std is not None else "-"
        yield (f"`{pool}`", reached, gap, *_costs(row), *_measures(table, row))


def _measures(table: StudyTable, row: Row) -> Iterable[str]:
    """What was measured of these runs; empty where nothing was."""
    for name in table.measures:
        spread = row.measures.get(name)
        yield "" if spread is None else f"{spread.mean:.3f} ± {spread.std or 0:.3f}"


def _costs(row: Row) -> tuple[str, ...]:
    model = sapool.compile(
        f"timm:test_resnet-{row.axes['pool']}-{row.axes['strides']}", num_classes=10, image_size=32, in_chans=1
    ).eval()
    peaks = (sapool.cost(model).memory.peak, sapool.stream(model, image_size=(32, 32)).schedule.peak)
    return (
        f"{row.costs['parameters']:,}",
        f"{row.costs['macs'] / 1e6:.1f}",
        *(f"{peak / 1024:.1f}" for peak in peaks),
    )


def starts(backbone: StudyTable, torch: StudyTable) -> Iterable[tuple[str, ...]]:
    """A row for each pooling of both studies: accuracies of both starts, and their difference."""
    for row in (row for row in torch.rows if row.n):
        pool = row.axes["pool"]
        published, other = scores(backbone, {"pool": pool, "strides": "1222"}), scores(torch, {"pool": pool})
        means = (f"{sum(found.values()) / len(found):.4f}" for found in (published, other))
        yield (f"`{pool}`", *means, interval(paired(published, other)))


def shown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)) + "\n"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fashion", type=Path)
    parser.add_argument("start", type=Path, nargs="?")
    options = parser.parse_args()
    table = study_table(options.fashion)
    measured = table.measures
    head = (
        "pooling",
        "test accuracy",
        "above `skip`",
        "parameters",
        "MACs, M",
        "peak, KiB",
        "streamed, KiB",
        *measured,
    )
    for strides in dict.fromkeys(row.axes["strides"] for row in table.rows):
        print(f"{strides}\n\n{shown(head, poolings(table, strides))}")
    if options.start is not None:
        print(
            shown(("pooling", "as the backbone", "as PyTorch", "difference"), starts(table, study_table(options.start)))
        )
    seconds = [json.loads(file.read_text())["training_seconds"] for file in options.fashion.glob("runs/*/summary.json")]
    print(f"{len(seconds)} runs, {sum(seconds) / 60:.0f} minutes of training on the wall, startup and test left out")


if __name__ == "__main__":
    main()
