"""What can't be trained, or needs more than it may, is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sapool.classify.data.sources import open_data
from sapool.cost.flops import costs, total
from sapool.cost.limits import Limits, Needs
from sapool.cost.memory import analyse, unroll_for_device
from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.recipes.reading import AnyRecipe, Recipe
from sapool.recipes.settings import Data
from sapool.runs.networks import USUAL_SIDE, network_of
from sapool.study.sweep.points import Planned


def checked(runs: Sequence[Planned], limits: Limits) -> list[Planned]:
    """The same runs; those whose network doesn't compile, or exceeds a limit, are refused with the reason.

    Args:
        runs: of one study.
        limits: what a network may need.

    Raises:
        InputError: the data isn't there.
    """
    found: dict[object, str] = {}
    told = []
    for run in runs:
        if run.recipe is None:
            told.append(run)
            continue
        recipe, classes = run.recipe, _classes(run.recipe)
        size = recipe.data.image_size or USUAL_SIDE
        key = (recipe.architecture, recipe.plan, recipe.dialect, recipe.model.in_chans, size, classes)
        if key not in found:
            found[key] = _reason(recipe, classes, limits)
        told.append(run.refuse(found[key]) if found[key] else run)
    return told


def needs_of(model: CompiledModel, limits: Limits) -> Needs:
    """What a network needs for one image of its plan's size, measured."""
    unrolled = unroll_for_device(model, model.plan)
    memory, cost = analyse(unrolled, limits.assumptions), total(costs(model, model.plan, unrolled))
    return Needs(memory.arena, memory.peak, cost.macs, cost.parameters)


def _reason(recipe: AnyRecipe, classes: int | None, limits: Limits) -> str:
    try:
        model = network_of(recipe, classes)
    except InputError as error:
        return error.given.splitlines()[0]
    if not limits:
        return ""
    return "; ".join(map(str, limits.exceeded(needs_of(model, limits))))


def _classes(recipe: AnyRecipe) -> int | None:
    """How many classes a classifier's data has."""
    if not isinstance(recipe, Recipe):
        return None
    return classes_of(recipe.data.model_copy(update={"image_size": 0}))


@lru_cache(16)
def classes_of(data: Data) -> int:
    """How many classes there are in a recipe's data.

    Raises:
        InputError: it isn't there.
    """
    return len(open_data(data).classes)
