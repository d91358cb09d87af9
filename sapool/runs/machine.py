"""What a recipe asks of the machine that it is to run on, as far as that is known at once. No torch here.

Opening a run asks nothing of it.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from sapool.catalogue.data_sets import DATA_SETS, check_parts, default_root
from sapool.errors import InputError, MissingExtraError, RecipeError, WeightsError
from sapool.recipes.reading import AnyRecipe, Recipe

_A_CORE = 8
"""Processes that a core can be kept busy by, and more than that."""

_CHANNELS, _BYTES = 3, 4

_IN_EXTRAS = {"tensorboard": '"sapool[train]"'}
"""Loggers that an extra brings."""


def check_machine(recipe: AnyRecipe, *, resume: bool = False) -> None:
    """Refuses more processes than do any good here, batches that don't fit, and files that aren't there.

    A run that is resumed has its weights in its checkpoint, whatever has become of the file that it began with.

    Raises:
        RecipeError: names the setting, and what the machine has.
        InputError: the data isn't there.
        WeightsError: the weights aren't.
    """
    cores = os.cpu_count() or 1
    devices = 1
    if isinstance(recipe, Recipe):
        given = recipe.train.devices
        devices = given if isinstance(given, int) else len(given)
        _check_processes("train.devices", devices, cores)
    elif recipe.detector.engine == "torchvision" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("detector.engine: torchvision's detectors train in one process; mmdet's in many, too")
    _check_processes("data.workers", recipe.data.workers, cores)
    _check_processes("data.workers of all train.devices together", recipe.data.workers * devices, cores)
    _check_batch(recipe)
    if isinstance(recipe, Recipe):
        for name in recipe.train.logger:
            if find_spec(name) is None:
                package = _IN_EXTRAS.get(name, name)
                raise MissingExtraError(
                    f"train.logger={name} needs {name}, which is not installed: pip install {package}"
                )
    _check_data(recipe)
    weights = None if resume else recipe.weights
    if weights is not None and weights != "DEFAULT" and "://" not in weights and not Path(weights).exists():
        raise WeightsError(f"weights: no such file: {weights}")


def _check_data(recipe: AnyRecipe) -> None:
    """Looks for folders and files, without reading them; what can be downloaded or made needn't be there."""
    data = recipe.data
    if isinstance(recipe, Recipe):
        entry = DATA_SETS[data.name]
        if not entry.parts:
            return
        if data.root is None and entry.name == "folder":
            raise InputError(f"{entry.title} isn't named. To do so: {entry.get}.")
        check_parts(entry, Path(data.root) if data.root else default_root() / entry.name)
    elif data.name != "digits-detection":
        root = Path(data.root) if data.root else default_root() / data.name
        for name in (recipe.data.train_annotations, recipe.data.val_annotations):
            if not (root / name).is_file():
                raise InputError(
                    f"the annotations {root / name} can't be read: No such file or directory; data.root and "
                    "data.train_annotations, data.val_annotations say where they are"
                )


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
