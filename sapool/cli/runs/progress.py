"""What the command line prints while a run goes on: an engine's progress bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sapool.cli.console import console
from sapool.cli.tables import show_diagnostics
from sapool.diagnostics import Diagnostic
from sapool.runs.progress import Progress


class ConsoleProgress(Progress):
    """Prints what it hears to standard output as it was when this was made: an engine may redirect it meanwhile."""

    def __init__(self) -> None:
        self.out = console()
        self.bars = self.out.is_terminal

    def started(self, text: str) -> None:
        self.out.print(text, markup=False)

    def diagnosed(self, diagnostics: Sequence[Diagnostic]) -> None:
        show_diagnostics(self.out, diagnostics)

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        self.out.print(f"epoch {number}/{total}  {_shown(metrics)}", markup=False)

    def validated(self, metrics: Mapping[str, float]) -> None:
        self.out.print(f"  validation  {_shown(metrics)}", markup=False)


def _shown(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
