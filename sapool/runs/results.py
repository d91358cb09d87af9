"""What a task's work gives back: records that say themselves what a person, and what a program, reads of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

from sapool.errors import visible

if TYPE_CHECKING:
    from sapool.cost.comparison import Comparison
    from sapool.diagnostics import Diagnostic
    from sapool.model import CompiledModel


@dataclass(frozen=True)
class Table:
    """Rows of text under the names of their columns.

    Attributes:
        columns: their names.
        rows: as many cells each.
        title: above the table, or "".
        spare: columns that a narrow terminal may leave out, those first that are missed least.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    spare: tuple[str, ...] = ()


class Result(ABC):
    """A record of work that was done. It prints nothing; whoever asked for the work may show it."""

    @abstractmethod
    def report(self) -> tuple[Table | str, ...]:
        """What a person reads: tables and paragraphs, in order."""

    @abstractmethod
    def as_data(self) -> Any:
        """What a program reads: plain data, as JSON has it."""


@dataclass(frozen=True)
class Fit(Result):
    """A run that was trained to its end, or stopped by a signal.

    Attributes:
        folder: the run's.
        summary: what its `summary.json` holds; nothing where it was stopped, and in all processes of a run but the
            first.
        stopped: the signal that stopped it, or None.
        checkpoint: of a stopped run, the file that resuming it begins with; None where nothing had been saved.
    """

    folder: Path
    summary: Mapping[str, Any] = field(default_factory=dict)
    stopped: Signals | None = None
    checkpoint: Path | None = None

    def report(self) -> tuple[Table | str, ...]:
        return (Table(("result", "value"), self._rows()),) if self.summary else ()

    def _rows(self) -> tuple[tuple[str, str], ...]:
        return tuple((key.replace("_", " "), _shown(value)) for key, value in self.summary.items())

    def as_data(self) -> dict[str, Any]:
        return dict(self.summary)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(value)
    return f"{value:,}" if type(value) is int else str(value)


@dataclass(frozen=True)
class DryRun(Result):
    """A recipe that was tried on a few batches.

    Attributes:
        seconds: that a batch of training takes.
        steps: batches in an epoch.
        epochs: of the whole run.
        model, cost, diagnostics: of the network, where the task trains it as it was compiled.
    """

    seconds: float
    steps: int
    epochs: int
    model: CompiledModel | None = None
    cost: Comparison | None = None
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Evaluation(Result):
    """What a run's best model is worth, measured; also written into the run as `evaluation.json`.

    Attributes:
        epoch: of that model, from 1.
        images: how many it was measured on.
        scores: by their names, from 0 to 1; None where nothing could be measured.
        per_class: the same of each class.
    """

    epoch: int
    images: int
    scores: Mapping[str, float | None]
    per_class: Mapping[str, float | None]


@dataclass(frozen=True)
class Predictions(Result):
    """What a run's best model sees in images.

    Attributes:
        images: the files, as they were named.
    """

    images: tuple[str, ...]


@dataclass(frozen=True)
class Heatmaps(Result):
    """Sheets of maps that were drawn, one an image.

    Attributes:
        files: the sheets, in the order of the images.
    """

    files: tuple[Path, ...]

    def report(self) -> tuple[Table | str, ...]:
        return ("\n".join(visible(str(file)) for file in self.files),)

    def as_data(self) -> list[str]:
        return [str(file) for file in self.files]
