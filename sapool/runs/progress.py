"""What a run tells while it goes on, and the table of epochs that it keeps. No torch here.

`metrics.csv` has one row an epoch, written when the epoch has ended, over all starts of a run.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sapool.weights.atomic import write_text

if TYPE_CHECKING:
    from sapool.diagnostics import Diagnostic


@dataclass(frozen=True)
class Pace:
    """How fast training goes.

    Attributes:
        rate: the learning rate.
        images: a second, in training, all processes together.
        remaining: seconds until the last epoch's end, as those of this start say.
    """

    rate: float
    images: float
    remaining: float


class Progress:
    """Listens to a run, and does nothing with what it hears: a library's caller may not want to hear it.

    Whoever does derives from it. It is told in the first process of a run only.

    Attributes:
        bars: whether it shows what `advanced` tells.
    """

    bars: bool = False

    def started(self, text: str) -> None:
        """What is trained, and where; one or a few lines."""

    def diagnosed(self, diagnostics: Sequence[Diagnostic]) -> None:
        """What is to be said of the network."""

    def advanced(self, what: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        """Another batch is done, the `done`th of `total`, of `what`: "epoch 3/60", "validating"."""

    def epoch(self, number: int, total: int, metrics: Mapping[str, float], pace: Pace | None = None) -> None:
        """An epoch ended, the `number`th of `total`, with these averages over it."""

    def validated(self, metrics: Mapping[str, float]) -> None:
        """The model was measured apart from an epoch's end."""


class Stopwatch:
    """Times epochs, and guesses from them how long the others take.

    Attributes:
        before: seconds that earlier starts of the run took.
        images: that were trained on in the epoch so far.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.before, self.images = before, 0
        self._start = self._epoch = self._last = time.monotonic()
        self._epochs = 0.0

    def begin_epoch(self, done: float = 0.0) -> None:
        """An epoch begins, or is entered where a run goes on: that share of it was `done` before."""
        self._epoch = self._last = time.monotonic()
        self.images = 0
        self._epochs -= done

    def count(self, images: int) -> None:
        """So many images more have been trained on."""
        self.images += images
        self._last = time.monotonic()

    @property
    def total(self) -> float:
        """Seconds of training in all starts."""
        return self.before + time.monotonic() - self._start

    @property
    def images_per_second(self) -> float:
        """In this epoch's training, without its validation."""
        return self.images / max(self._last - self._epoch, 1e-9)

    @property
    def epoch_seconds(self) -> float:
        """Since the epoch began, or was entered."""
        return time.monotonic() - self._epoch

    def end_epoch(self, left: int) -> tuple[float, float]:
        """The epoch's seconds, and those that the `left` others will take."""
        now = time.monotonic()
        self._epochs += 1
        return now - self._epoch, left * (now - self._start) / max(self._epochs, 1e-9)


FILE = "metrics.csv"


class EpochTable:
    """The table of a run.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def rows(self) -> list[dict[str, str]]:
        """What was written, as text; a line that a killed process left unfinished isn't there."""
        content = self._content()
        whole = content[: content.rfind("\n") + 1]
        return [row for row in csv.DictReader(io.StringIO(whole)) if None not in row.values() and None not in row]

    def record(self, epoch: int, figures: Mapping[str, float | int | None]) -> None:
        """Writes an epoch's row behind the others, or in the place of those that a resumed run computes again.

        Args:
            epoch: from 1.
            figures: by the names of their columns; None leaves a cell empty.

        Raises:
            InputError: the file can't be written.
        """
        row = {"epoch": str(epoch)} | {name: "" if value is None else f"{value:.9g}" for name, value in figures.items()}
        before = self.rows()
        kept = [old for old in before if old["epoch"].isdigit() and int(old["epoch"]) < epoch]
        columns = list(dict.fromkeys([*(before[0] if before else ()), *row]))
        if kept and len(kept) == len(before) and self._content() == _text(kept, columns, head=True):
            # Whoever follows the file sees a line more.
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text([row], columns))
        else:
            write_text(self.path, _text([*kept, row], columns, head=True))

    def _content(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def _text(rows: Sequence[Mapping[str, str]], columns: Sequence[str], *, head: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
