"""What a recipe may ask of the machine that it is to run on. Opening a run asks nothing of it."""

from __future__ import annotations

import os

from sapool.errors import RecipeError
from sapool.recipes.reading import AnyRecipe, Recipe

_A_CORE = 8
"""Processes that a core can be kept busy by, and more than that."""


def check_machine(recipe: AnyRecipe) -> None:
    """Refuses more processes than do any good here, before the first is started.

    Raises:
        RecipeError: names the setting, and how many cores there are.
    """
    cores = os.cpu_count() or 1
    asked = {"data.workers": recipe.data.workers}
    if isinstance(recipe, Recipe):
        devices = recipe.train.devices
        asked["train.devices"] = devices if isinstance(devices, int) else len(devices)
    for name, count in asked.items():
        if count > _A_CORE * cores:
            raise RecipeError(
                f"{name}: {count} processes are more than this machine can use; it has {cores} cores, so at most "
                f"{_A_CORE * cores}"
            )
