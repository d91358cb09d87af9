"""A study's table as data: what its runs reached over seeds against what their networks cost. No time is in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from sapool.digests import read_json
from sapool.errors import InputError
from sapool.runs.results import Result, Table
from sapool.study.differences import CONFIDENCE, Difference, paired
from sapool.study.measures import MEASURES, Spread, read_measures, spreads
from sapool.study.sweep.folder import RunOfStudy, StudyFolder, open_study
from sapool.study.values import for_latex, for_spreadsheet, number, whole_number

COSTS = ("parameters", "macs", "arena_bytes")
_SCORES = ("test_accuracy", "bbox_mAP")
_METRICS = ("test_accuracy", "test_loss", "val_accuracy", "selected_on_test_accuracy", "best_epoch")
State = Literal["done", "pruned", "failed", "refused", "unfinished"]


@dataclass(frozen=True)
class StudyRun:
    """A run of a study.

    Attributes:
        name, axes, seed: which.
        state: what became of it.
        metrics: what it reached, of a run that is done.
        costs: `parameters`, `macs`, `arena_bytes`, `peak_bytes` of its network for one image, where it has them.
        sentence: why it failed or was refused.
        pruned: after how many epochs a search stopped it; None where it didn't.
    """

    name: str
    axes: dict[str, Any]
    seed: int
    state: State
    metrics: dict[str, float]
    costs: dict[str, int]
    sentence: str = ""
    pruned: int | None = None


@dataclass(frozen=True)
class Row:
    """A combination of axes over its seeds.

    Attributes:
        axes: it.
        n: runs of it that are done.
        mean, std: of the score; None without runs, and of one run no deviation.
        costs: of its network.
        front: whether no other combination scores as high for no more of some cost, by the cost's name.
        below_best: how far it is below the best combination; None for that one itself, and without runs.
        pruned: after how many epochs a search stopped it; None where it didn't.
        measures: what `sapoolc evaluate` measured of its runs, by the names of `MEASURES`.
    """

    axes: dict[str, Any]
    n: int
    mean: float | None
    std: float | None
    costs: dict[str, int]
    front: dict[str, bool]
    below_best: Difference | None
    pruned: int | None = None
    measures: dict[str, Spread] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyTable(Result):
    """A study's table.

    Attributes:
        title: the study's.
        score: what is averaged.
        axes: names of those that differ between runs.
        runs: every run that was asked for, in order.
        rows: every combination with a run that wasn't refused, in order.
    """

    title: str
    score: str
    axes: tuple[str, ...]
    runs: tuple[StudyRun, ...]
    rows: tuple[Row, ...]

    def report(self) -> tuple[Table | str, ...]:
        known: tuple[State, ...] = ("pruned", "failed", "refused", "unfinished")
        states = {state: sum(run.state == state for run in self.runs) for state in known}
        notes = [f"{state}: {count} of {len(self.runs)} runs" for state, count in states.items() if count]
        failed = tuple(f"{run.name} failed: {run.sentence}" for run in self.runs if run.state == "failed")
        said = (
            f"± is the standard deviation over n seeds; below best: paired over seeds, with its {CONFIDENCE:.0%} "
            "interval, * where that excludes 0; P/M/A: nothing scores as high with fewer parameters, fewer MACs, a "
            "smaller arena"
        )
        rows = tuple(self._cells(row) for row in self.rows)
        title = "; ".join([f"{self.title}: {self.score.replace('_', ' ')}", *notes])
        return (Table(self.columns, rows, title=title), said, *self._measured(), *failed)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that some run has."""
        return tuple(name for name in MEASURES if any(name in row.measures for row in self.rows))

    def _measured(self) -> tuple[Table, ...]:
        if not (names := self.measures):
            return ()
        short = tuple(name.rpartition(".")[2] for name in self.axes)
        rows = tuple(
            (
                *(_shown(row.axes[name]) for name in self.axes),
                *(str(row.measures.get(name, "-")) for name in names),
            )
            for row in self.rows
        )
        return (Table((*short, *(MEASURES[name] for name in names)), rows, title="measures, ± over seeds"),)

    @property
    def columns(self) -> tuple[str, ...]:
        """What people read of each combination."""
        short = tuple(name.rpartition(".")[2] for name in self.axes)
        return (*short, "n", "score", "below best", "params", "MACs", "arena", "front")

    def _cells(self, row: Row) -> tuple[str, ...]:
        axes = tuple(_shown(row.axes[name]) for name in self.axes)
        none = "-" if row.pruned is None else f"pruned at {row.pruned}"
        score = none if row.mean is None else f"{row.mean:.4f}" + ("" if row.std is None else f"±{row.std:.4f}")
        marks = "".join(mark for mark, name in zip("PMA", COSTS, strict=True) if row.front.get(name))
        costs = (_scaled(row.costs.get(name)) for name in COSTS)
        return (*axes, str(row.n), score, _below(row.below_best), *costs, marks)

    def as_data(self) -> dict[str, Any]:
        data = asdict(self)
        for found, row in zip(data["rows"], self.rows, strict=True):
            if row.below_best is not None:
                found["below_best"]["clear"] = row.below_best.clear
        return data

    def to_csv(self) -> str:
        """A line for each combination, numbers in full."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        below = ("below_best", "below_best_low", "below_best_high")
        measured = [f"{name}_{part}" for name in self.measures for part in ("mean", "std")]
        heads = [
            *map(for_spreadsheet, self.axes),
            "n",
            f"{self.score}_mean",
            f"{self.score}_std",
            *below,
            *COSTS,
            *_fronts(),
            *measured,
        ]
        writer.writerow(heads)
        for row in self.rows:
            gap = row.below_best
            gaps = ("", "", "") if gap is None else (gap.mean, gap.low, gap.high)
            numbers = [row.n, row.mean, row.std, *gaps, *(row.costs.get(name) for name in COSTS)]
            fronts = [int(row.front.get(name, False)) for name in COSTS]
            axes = [for_spreadsheet(_shown(row.axes[name])) for name in self.axes]
            found = [row.measures.get(name) for name in self.measures]
            more = [value for some in found for value in ((None, None) if some is None else (some.mean, some.std))]
            values = ("" if value is None else value for value in (*numbers, *fronts, *more))
            writer.writerow([*axes, *values])
        return text.getvalue()

    def to_latex(self) -> str:
        """The table for a paper; needs the package booktabs."""
        heads = [*(for_latex(name.rpartition(".")[2]) for name in self.axes), "$n$",
                 for_latex(self.score.replace("_", " ")), "parameters", "MACs", "arena (bytes)"]  # fmt: skip
        lines = [f"\\begin{{tabular}}{{{'l' * len(self.axes)}{'r' * 5}}}", "\\toprule"]
        lines += [" & ".join(heads) + " \\\\", "\\midrule"]
        best = max((row.mean for row in self.rows if row.mean is not None), default=None)
        for row in self.rows:
            score = "--" if row.mean is None else f"{row.mean:.4f}"
            if row.std is not None:
                score += f" \\pm {row.std:.4f}"
            score = f"$\\mathbf{{{score}}}$" if row.mean is not None and row.mean == best else f"${score}$"
            axes = [for_latex(_shown(row.axes[name])) for name in self.axes]
            costs = ["--" if (cost := row.costs.get(name)) is None else f"{cost:,}" for name in COSTS]
            lines.append(" & ".join([*axes, str(row.n), score, *costs]) + " \\\\")
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def study_table(path: str | Path) -> StudyTable:
    """The table of the study in a folder, as far as its runs are.

    Raises:
        InputError: there is no study, or a file of it is damaged.
    """
    study = open_study(path)
    runs = tuple(_read(study, run) for run in study.runs)
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.axes.items():
            values.setdefault(name, set()).add(repr(value))
    several = tuple(name for name, some in values.items() if len(some) > 1) or tuple(values)
    score = next((name for run in runs for name in _SCORES if name in run.metrics), _SCORES[0])
    return StudyTable(study.title, score, several, runs, _rows([run for run in runs if run.state != "refused"], score))


def _rows(runs: Sequence[StudyRun], score: str) -> tuple[Row, ...]:
    groups: dict[str, list[StudyRun]] = {}
    for run in runs:
        groups.setdefault(repr(run.axes), []).append(run)
    by_seed = {
        key: {run.seed: run.metrics[score] for run in group if score in run.metrics} for key, group in groups.items()
    }
    means = {key: fmean(scores.values()) for key, scores in by_seed.items() if scores}
    costs = {key: next((run.costs for run in group if run.costs), {}) for key, group in groups.items()}
    best = max(means, key=means.__getitem__, default=None)
    rows = []
    for key, group in groups.items():
        scores = list(by_seed[key].values())
        front = {
            name: not any(_beats((costs[other][name], means[other]), (costs[key][name], means[key]))
                          for other in means if name in costs[other])
            for name in COSTS
            if key in means and name in costs[key]
        }  # fmt: skip
        rows.append(
            Row(
                axes=group[0].axes,
                n=len(scores),
                mean=means.get(key),
                std=stdev(scores) if len(scores) > 1 else None,
                costs=costs[key],
                front=front,
                below_best=paired(by_seed[best], by_seed[key]) if best is not None and scores and key != best else None,
                pruned=max((run.pruned for run in group if run.pruned is not None), default=None),
                measures=spreads([run.metrics for run in group]),
            )
        )
    return tuple(rows)


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether one (cost, score) is no worse in either than another, and better in one."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def _read(study: StudyFolder, run: RunOfStudy) -> StudyRun:
    if run.refused:
        return StudyRun(run.name, run.axes, run.seed, "refused", {}, {}, run.refused)
    if sentence := study.failure(run.name):
        return StudyRun(run.name, run.axes, run.seed, "failed", {}, {}, sentence)
    if (epochs := study.pruned(run.name)) is not None:
        return StudyRun(run.name, run.axes, run.seed, "pruned", {}, {}, pruned=epochs)
    file = study.folder(run.name) / "summary.json"
    try:
        summary = read_json(file)
        metrics = {
            name: number(summary[name], finite=not name.endswith("loss"))
            for name in (*_METRICS, "bbox_mAP")
            if summary.get(name) is not None
        }
        costs = {name: whole_number(summary[name]) for name in (*COSTS, "peak_bytes") if name in summary}
    except FileNotFoundError:
        return StudyRun(run.name, run.axes, run.seed, "unfinished", {}, {})
    except InputError:
        raise
    except (OSError, ValueError, TypeError, AttributeError):
        raise InputError(f"{file} is damaged; take it from where it is whole") from None
    metrics |= read_measures(study.folder(run.name))
    return StudyRun(run.name, run.axes, run.seed, "done", metrics, costs)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _below(gap: Difference | None) -> str:
    if gap is None:
        return "-"
    interval = "" if gap.low is None else f" [{gap.low:.3f}, {gap.high:.3f}]"
    return f"{gap.mean:.3f}{interval}{'*' if gap.clear else ''}"


def _scaled(value: int | None) -> str:
    if value is None:
        return "-"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def _fronts() -> list[str]:
    return [f"front_{name}" for name in COSTS]
