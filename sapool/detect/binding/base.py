"""Base configs: those that mmdet ships, by name, or a file's."""

from __future__ import annotations

from pathlib import Path

import mmdet
from mmengine.config import Config

from sapool.errors import InputError, did_you_mean

SHIPPED = Path(mmdet.__file__).parent / ".mim" / "configs"


def load_base(name: str) -> Config:
    """The config that a recipe builds on, with everything that it inherits.

    Args:
        name: relative to mmdet's folder of configs (`.py` may be left out), just the file's name where only one folder
            has it, or a path.

    Raises:
        InputError: there is no such config, or it can't be read, or it describes no detector.
    """
    path = _find(name)
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is a program: it can fail in any way
        raise InputError(f"detector.base: {path} can't be read as a config of mmengine: {error}") from None
    if "backbone" not in config.get("model", {}):
        raise InputError(f"detector.base: {path} describes no detector: it has no model.backbone")
    return config


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
