"""Which networks of a space fit a budget, told without weights and without training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from sapool.analysis.parts import parts_of
from sapool.compiler import execute
from sapool.cost.budget import to_blame
from sapool.cost.limits import Limits, Needs
from sapool.cost.memory import activation_memory
from sapool.errors import InputError
from sapool.recipes.inputs import size_text
from sapool.study.search.found import Fitting, Found
from sapool.study.search.measuring import needs_of_all, plan_of
from sapool.study.search.segments import Meter
from sapool.study.search.space import Space, candidates


def look(
    space: Space,
    limits: Limits,
    most: int | None = None,
    watch: Callable[[int, int], None] | None = None,
    *,
    jobs: int = 1,
) -> Found:
    """Holds every network of a space against a budget.

    Networks of the front are measured whole again, as `sapoolc compile` does.

    Args:
        space: it.
        limits: the budget.
        most: look at so many, drawn at random; None for all.
        watch: is told how many of how many are done.
        jobs: processes at most.

    Raises:
        RecipeError: there is no network in the space.
        InputError: none of them compiles; says why of the first.
    """
    start = time.monotonic()
    found, _ = candidates(space, most)
    told = needs_of_all(found, space, limits.assumptions, jobs, watch)
    known = [Fitting(one, needs) for one in found if isinstance(needs := told[one], Needs)]
    if not known:
        raise InputError(f"no network of the space compiles: {found[0].text}: {told[found[0]]}")
    fitting = tuple(one for one in known if not limits.exceeded(one.needs))
    front = _front(fitting)
    for one in front:
        measured = Meter(limits.assumptions).measure(plan_of(one.candidate, space))
        assert measured == one.needs, f"{one.candidate}: {measured} measured, {one.needs} put together"
    closest = "" if fitting else _closest(known, limits, space)
    seconds = time.monotonic() - start
    return Found(limits, len(found), len(found) - len(known), fitting, front, seconds, closest)


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
        model = execute(plan_of(best.candidate, space))
    memory = activation_memory(model, model.plan, limits.assumptions)
    blamed = to_blame(memory, min(allowed), parts_of(model, model.plan))
    return said + "".join(f"; {part} needs {needed:,}" for part, needed in blamed[:3])
