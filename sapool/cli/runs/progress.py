"""What the command line prints while a run goes on: a line an epoch, and on a terminal a bar under it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from sapool.cli.console import console
from sapool.cli.tables import show_diagnostics
from sapool.diagnostics import Diagnostic
from sapool.runs.progress import Pace, Progress

# Seconds between drawings of a bar.
_PAUSE = 0.1
_SHORT = {"accuracy": "acc", "selected on test": "test (selects)", "training loss": "loss"}
_LEAST = 7
"""Columns that a figure takes at least."""


class ConsoleProgress(Progress):
    """Prints what it hears to standard output as it was when this was made: an engine may redirect it meanwhile.

    As a context it takes its bar away on leaving, whatever happened.
    """

    def __init__(self) -> None:
        self.out = console()
        self.bars = self.out.is_terminal
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._drawn = 0.0
        self._heads: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def started(self, text: str) -> None:
        self._clear()
        self.out.print(text, markup=False)

    def diagnosed(self, diagnostics: Sequence[Diagnostic]) -> None:
        self._clear()
        show_diagnostics(self.out, diagnostics)

    def advanced(self, what: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        if not self.bars:
            return
        if self._bar is None:
            self._bar = _bar(self.out)
            self._bar.start()
            self._task = self._bar.add_task("", f="")
        shown = "  ".join(f"{name} {value:.4g}" for name, value in (figures or {}).items())
        self._bar.update(self._task, description=what, completed=done, total=total, f=shown)
        now = time.monotonic()
        if now - self._drawn > _PAUSE or done == total:
            self._drawn = now
            self._bar.refresh()

    def epoch(self, number: int, total: int, metrics: Mapping[str, float], pace: Pace | None = None) -> None:
        self._clear()
        if not self.bars:
            paced = "" if pace is None else f"  {_paced(pace)}"
            self.out.print(f"epoch {number}/{total}  {_shown(metrics)}{paced}", markup=False)
            return
        cells = {"epoch": f"{number}/{total}"} | {_head(name): f"{value:.4f}" for name, value in metrics.items()}
        if pace is not None:
            cells |= {"lr": f"{pace.rate:.2g}", "images/s": f"{pace.images:,.0f}", "ETA": clock(pace.remaining)}
        for spare in ("images/s", "lr"):
            if _width(cells) > self.out.width:
                cells.pop(spare, None)
        widths = [max(len(name), len(cell), _LEAST) for name, cell in cells.items()]
        if tuple(cells) != self._heads:
            self._heads = tuple(cells)
            self.out.print(_line(self._heads, widths), style="bold", markup=False)
        self.out.print(_line(tuple(cells.values()), widths), markup=False)

    def validated(self, metrics: Mapping[str, float]) -> None:
        self._clear()
        self.out.print(f"  validation  {_shown(metrics)}", markup=False)

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar(out: Console) -> Bar:
    """One line under what is printed, drawn when it is told to and taken away at the end.

    It has no thread of its own: processes that load data are forked meanwhile.
    """
    columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TextColumn("{task.fields[f]}"))
    return Bar(
        *columns, console=out, auto_refresh=False, transient=True, expand=True, redirect_stdout=False,
        redirect_stderr=False,
    )  # fmt: skip


def _shown(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def _paced(pace: Pace) -> str:
    return f"lr {pace.rate:.3g}  {pace.images:,.0f} images/s  ETA {clock(pace.remaining)}"


def _head(name: str) -> str:
    for long, short in _SHORT.items():
        name = name.replace(long, short)
    return name


def _width(cells: Mapping[str, str]) -> int:
    return sum(max(len(name), len(cell), _LEAST) + 2 for name, cell in cells.items()) - 2


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def clock(seconds: float) -> str:
    """`12:34`, or `1:02:03`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
