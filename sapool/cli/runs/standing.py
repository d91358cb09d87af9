"""How a study's runs stand, while they do: one live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sapool.cli.runs.progress import clock
from sapool.study.sweep.supervisor import Standing

_MOST, _PAUSE = 12, 0.25
_BAR, _STATE = 12, len("epoch 100/100 elsewhere")


class LiveStanding:
    """Shows how runs stand.

    Args:
        out: where.
        epochs: that each run has, by its name.
    """

    def __init__(self, out: Console, epochs: Mapping[str, int]) -> None:
        self.out, self.epochs = out, epochs
        self._live: Live | None = None
        self._drawn = 0.0
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, standing: Standing) -> None:
        """Shows it, unless that was a moment ago."""
        if not self.out.is_terminal:
            self._tell(standing)
            return
        if self._live is None:
            self._live = Live(console=self.out, auto_refresh=False, transient=True)
            self._live.start()
        if time.monotonic() - self._drawn > _PAUSE:
            self._drawn = time.monotonic()
            self._live.update(self._table(standing), refresh=True)

    def _tell(self, standing: Standing) -> None:
        for name, state in standing.states.items():
            if state != self._told.get(name, "waiting"):
                left = standing.count("waiting", "running", "elsewhere")
                told = f"; {left} left" if state in ("done", "pruned", "failed") else ""
                self.out.print(f"{state}: {name}{told}", markup=False)
            self._told[name] = state

    def _table(self, standing: Standing) -> Group:
        grid = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(3):
            grid.add_column(no_wrap=True)
        room = max(self.out.width - _BAR - _STATE - 4, 8)
        under_way = [name for name, state in standing.states.items() if state in ("running", "elsewhere")]
        for name in under_way[:_MOST]:
            done, total = standing.epochs.get(name, 0), self.epochs.get(name, 0)
            bar = "━" * round(_BAR * done / total) if total else ""
            state = standing.states[name]
            label = Text(name)
            label.truncate(room, overflow="ellipsis")
            grid.add_row(label, Text(bar.ljust(_BAR, "╌")), Text(f"epoch {done}/{total} {state}"))
        left = "" if standing.remaining is None else f", about {clock(standing.remaining)} left"
        counts = ", ".join(
            f"{standing.count(state)} {state}"
            for state in ("done", "pruned", "failed", "running", "elsewhere", "waiting")
            if standing.count(state)
        )
        # Under the table, whose names it would crowd.
        return Group(grid, Text(f"{counts}{left}", style="bold"))
