"""What a recipe may ask of the machine that it is to run on. Opening a run asks nothing of it."""

from __future__ import annotations

import os

from sapool.errors import RecipeError
from sapool.recipes.reading import AnyRecipe, Recipe

_A_CORE = 8
"""Processes that a core can be kept busy by, and more than that."""

_CHANNELS, _BYTES = 3, 4


def check_machine(recipe: AnyRecipe) -> None:
    """Refuses more processes than do any good here, and batches that don't fit, before anything is started.

    Raises:
        RecipeError: names the setting, and what the machine has.
    """
    cores = os.cpu_count() or 1
    devices = 1
    if isinstance(recipe, Recipe):
        given = recipe.train.devices
        devices = given if isinstance(given, int) else len(given)
        _check_processes("train.devices", devices, cores)
    _check_processes("data.workers", recipe.data.workers, cores)
    _check_processes("data.workers of all train.devices together", recipe.data.workers * devices, cores)
    _check_batch(recipe)


def _check_processes(name: str, count: int, cores: int) -> None:
    if count > _A_CORE * cores:
        raise RecipeError(
            f"{name}: {count} processes are more than this machine can use; it has {cores} cores, so at most "
            f"{_A_CORE * cores}"
        )


def _check_batch(recipe: AnyRecipe) -> None:
    """The images of one batch alone, as numbers of 32 bits, have to fit into memory; what training takes is more."""
    size = recipe.data.image_size
    if size is None:  # the base's
        return
    width, height = (size, size) if isinstance(size, int) else size
    needed, memory = recipe.train.batch_size * width * height * _CHANNELS * _BYTES, _memory()
    if memory is not None and needed > memory:
        raise RecipeError(
            f"train.batch_size: {recipe.train.batch_size} images of {width}x{height} pixels take "
            f"{needed / 2**30:,.1f} GB, and this machine has {memory / 2**30:,.1f}; lower it, or data.image_size"
        )


def _memory() -> int | None:
    """Bytes of memory that the machine has, where the system tells."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
