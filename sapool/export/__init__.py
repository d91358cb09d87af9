"""What leaves the compiler, one writer a file format."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """The room itself is called: `sapool.export(model, "model.py")`."""

    def __call__(self, model: Any, path: str | Path, **options: Any) -> None:
        """Writes a model in the format that the file's suffix says.

        Args:
            model: a compiled model.
            path: the file.
            options: of the format.

        Raises:
            InputError: there is no such format, the model can't be written in it, or the file can't be written.
        """
        from sapool.catalogue.formats import FORMATS, format_of  # noqa: PLC0415

        FORMATS.load(format_of(path).name)(model, path, **options)


sys.modules[__name__].__class__ = _Room
