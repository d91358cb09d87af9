"""Base configs: those that mmdet ships, by name, or a file's."""

from __future__ import annotations

from pathlib import Path

import mmdet
from mmengine.config import Config

from sapool.detect.binding.kept import made_anew
from sapool.detect.binding.literal import read_literal
from sapool.errors import InputError, did_you_mean

SHIPPED = Path(mmdet.__file__).parent / ".mim" / "configs"


KEPT = "base.py"
"""A run's copy of a base that mmdet doesn't ship: what came of it, as plain data."""


def load_base(name: str, run: Path | None = None) -> Config:
    """The config that a recipe builds on, with everything that it inherits.

    A config is a program. One that mmdet ships is run as such; another is run when training begins, by whoever wrote
    it into the recipe, and never when somebody opens a run or goes on with it: of what came of it, only what
    `made_anew` takes is used.

    Args:
        name: relative to mmdet's folder of configs (`.py` may be left out), just the file's name where only one folder
            has it, or a path.
        run: the folder of the run that is opened.

    Raises:
        InputError: there is no such config, or it can't be read, or it describes no detector.
    """
    path = _find(name) if run is None or _is_shipped(name) else run / KEPT
    if run is not None and path == run / KEPT:
        if not path.is_file():
            raise InputError(
                f"detector.base: {name} is a program, which isn't executed when a run is opened, and {run} has no "
                f"{KEPT} with what came of it; runs that are begun now have"
            )
        return made_anew(read_literal(path), path)
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is a program: it can fail in any way
        raise InputError(f"detector.base: {path} can't be read as a config of mmengine: {error}") from None
    if "backbone" not in config.get("model", {}):
        raise InputError(f"detector.base: {path} describes no detector: it has no model.backbone")
    return config


def is_program(name: str) -> bool:
    """Whether a base is a file of the user's, not one that mmdet ships."""
    return not _find(name).is_relative_to(SHIPPED)


def _is_shipped(name: str) -> bool:
    """Whether mmdet ships a base of that name, and no file of the user's has it."""
    try:
        return not is_program(name)
    except InputError:
        return False  # a file that has gone since


def _find(name: str) -> Path:
    named = Path(name if name.endswith(".py") else f"{name}.py").expanduser()
    if named.is_file():
        return named
    if (SHIPPED / named).is_file():
        return SHIPPED / named
    known = {path.relative_to(SHIPPED).as_posix(): path for path in sorted(SHIPPED.glob("[!_]*/**/*.py"))}
    same = [path for path in known.values() if path.name == named.as_posix()]
    if len(same) == 1:
        return same[0]
    raise InputError(f"detector.base: no config '{name}' here or in {SHIPPED}." + did_you_mean(named.as_posix(), known))
