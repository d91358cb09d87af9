"""What of a space fits a budget: what is told of it. No torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sapool.cost.limits import Limits, Needs
from sapool.recipes.inputs import size_text
from sapool.runs.results import Result, Table
from sapool.study.search.space import Candidate

_SHOWN = 20


@dataclass(frozen=True)
class Fitting:
    """A network that fits.

    Attributes:
        candidate: it.
        needs: what it needs for one image.
    """

    candidate: Candidate
    needs: Needs


@dataclass(frozen=True)
class Found(Result):
    """What of a space fits a budget.

    Attributes:
        limits: the budget.
        looked_at, refused: networks of the space, and how many of them don't compile for images of their size.
        fitting: those that fit, in the order of the space.
        front: those of them that no other beats: with as many MACs in a smaller arena, or more in as small a one.
        seconds: that this took.
        closest: where nothing fits, what comes closest, and what is to blame.
    """

    limits: Limits
    looked_at: int
    refused: int
    fitting: tuple[Fitting, ...]
    front: tuple[Fitting, ...]
    seconds: float
    closest: str = ""

    def report(self) -> tuple[Table | str, ...]:
        rate = 60 * self.looked_at / max(self.seconds, 1e-9)
        told = (
            f"{self.looked_at:,} networks, {len(self.fitting):,} fit, {self.refused:,} are refused (images too small); "
            f"{self.seconds:.1f} s, {rate:,.0f} a minute"
        )
        if self.closest:
            return (told, self.closest)
        rows = [
            (one.candidate.text, size_text(one.candidate.image_size), f"{one.needs.arena:,}", f"{one.needs.macs:,}",
             f"{one.needs.parameters:,}")
            for one in self.front[-_SHOWN:][::-1]
        ]  # fmt: skip
        more = f"; the {_SHOWN} largest of {len(self.front):,}" if len(self.front) > _SHOWN else ""
        title = f"the front: the most MACs, which stand in for accuracy, in the smallest arena{more}"
        return (told, Table(("architecture", "size", "arena", "MACs", "parameters"), tuple(rows), title=title))

    def as_data(self) -> dict[str, Any]:
        data = asdict(self)
        for name in ("fitting", "front"):
            data[name] = [{**one["candidate"], **one["needs"]} for one in data[name]]
        return data
