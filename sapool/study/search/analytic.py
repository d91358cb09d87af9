"""Which networks of a space fit a budget, told without weights and without training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch

from sapool.analysis.parts import parts_of
from sapool.compiler import execute
from sapool.cost.budget import to_blame
from sapool.cost.limits import Limits, Needs
from sapool.cost.memory import activation_memory
from sapool.errors import InputError
from sapool.ir.plan import Plan
from sapool.planning import make_plan
from sapool.recipes.inputs import Sides, size_text
from sapool.runs.results import Result, Table
from sapool.study.search.segments import Meter
from sapool.study.search.space import Candidate, Space, candidates

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
        best = self.front[-1].candidate
        return (
            told,
            Table(("architecture", "size", "arena", "MACs", "parameters"), tuple(rows), title=title),
            "train them on your data as a study: sapoolc sweep (docs/studies.md); or one of them: sapoolc train RECIPE "
            f"architecture={best.text} data.image_size={size_text(best.image_size)}",
        )

    def as_data(self) -> dict[str, Any]:
        data = asdict(self)
        for name in ("fitting", "front"):
            data[name] = [{**one["candidate"], **one["needs"]} for one in data[name]]
        return data


def look(
    space: Space, limits: Limits, most: int | None = None, watch: Callable[[int, int], None] | None = None
) -> Found:
    """Holds every network of a space against a budget.

    Networks of the front are measured whole again, as `sapoolc compile` does.

    Args:
        space: it.
        limits: the budget.
        most: look at so many, drawn at random; None for all.
        watch: is told how many of how many are done.

    Raises:
        RecipeError: there is no network in the space.
        InputError: none of them compiles; says why of the first.
    """
    start = time.monotonic()
    found, _ = candidates(space, most)
    meter, told, why = Meter(limits.assumptions), dict[Candidate, Fitting](), ""
    # Sizes of one network after each other, the largest first, as the meter rewrites it once then.
    for number, candidate in enumerate(sorted(found, key=lambda one: (one.text, -prod(_sides(one))))):
        try:
            told[candidate] = Fitting(candidate, meter.needs(_plan(candidate, space)))
        except InputError as error:
            why = why or f"{candidate.text}: {error.given.splitlines()[0]}"
        if watch is not None:
            watch(number + 1, len(found))
    known = [told[candidate] for candidate in found if candidate in told]
    if not known:
        raise InputError(f"no network of the space compiles: {why}")
    fitting = tuple(one for one in known if not limits.exceeded(one.needs))
    front = _front(fitting)
    for one in front:
        measured = Meter(limits.assumptions).measure(_plan(one.candidate, space))
        assert measured == one.needs, f"{one.candidate}: {measured} measured, {one.needs} put together"
    closest = "" if fitting else _closest(known, limits, space)
    seconds = time.monotonic() - start
    return Found(limits, len(found), len(found) - len(known), fitting, front, seconds, closest)


def _plan(candidate: Candidate, space: Space) -> Plan:
    return make_plan(
        candidate.text, image_size=candidate.image_size, num_classes=space.num_classes, in_chans=space.in_chans
    )


def _sides(candidate: Candidate) -> Sides:
    size = candidate.image_size
    return (size, size) if isinstance(size, int) else size


def _front(fitting: Sequence[Fitting]) -> tuple[Fitting, ...]:
    """By the arena, from the smallest on, those with more MACs than any before."""
    front: list[Fitting] = []
    for one in sorted(fitting, key=lambda one: (one.needs.arena, -one.needs.macs, one.needs.parameters)):
        if not front or one.needs.macs > front[-1].needs.macs:
            front.append(one)
    return tuple(front)


def _closest(known: Sequence[Fitting], limits: Limits, space: Space) -> str:
    """What exceeds the budget least, by how much, and what is to blame."""

    def worst(one: Fitting) -> float:
        return max(needed / limit for needed, limit in limits.shares(one.needs).values())

    best = min(known, key=worst)
    over = "; ".join(map(str, limits.exceeded(best.needs)))
    said = f"nothing fits; {best.candidate.text} at {size_text(best.candidate.image_size)} comes closest: {over}"
    allowed = [
        limit for name, (_, limit) in limits.shares(best.needs).items() if name in ("memory", "the device's SRAM")
    ]
    if not allowed or best.needs.arena <= min(allowed):
        return said
    with torch.device("meta"):
        model = execute(_plan(best.candidate, space))
    memory = activation_memory(model, model.plan, limits.assumptions)
    blamed = to_blame(memory, min(allowed), parts_of(model, model.plan))
    return said + "".join(f"; {part} needs {needed:,}" for part, needed in blamed[:3])
