"""What a run tells while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapool.diagnostics import Diagnostic


class Progress:
    """Listens to a run, and does nothing with what it hears: a library's caller may not want to hear it.

    Whoever does derives from it. It is told in the first process of a run only.

    Attributes:
        bars: whether an engine that has a progress bar may draw it; epochs aren't told then.
    """

    bars: bool = False

    def started(self, text: str) -> None:
        """What is trained, and where; one or a few lines."""

    def diagnosed(self, diagnostics: Sequence[Diagnostic]) -> None:
        """What is to be said of the network."""

    def epoch(self, number: int, total: int, metrics: Mapping[str, float]) -> None:
        """An epoch ended, the `number`th of `total`, with these averages over it."""

    def validated(self, metrics: Mapping[str, float]) -> None:
        """The model was measured apart from an epoch's end."""
