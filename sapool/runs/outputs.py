"""Files that are made of a run: where they go, what they are called, and writing them whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from sapool.digests import json_with_digest
from sapool.errors import InputError, visible
from sapool.weights.atomic import replacing, write_text

_LONGEST = 230


def make_folder(path: Path) -> None:
    """Makes a folder for drawings, unless it is there.

    Raises:
        InputError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} can't be made: {error.strerror}") from None


def file_names(images: Sequence[str]) -> list[str]:
    """A PNG's name for each image; those of one name in different folders are told apart by a number."""
    stems = [_shortened(Path(image).stem) for image in images]
    names: list[str] = []
    for number, stem in enumerate(stems, start=1):
        name = stem if stems.count(stem) == 1 else f"{stem}-{number}"
        while name in names:
            name += f"-{number}"
        names.append(name)
    return [f"{name}.png" for name in names]


def _shortened(stem: str) -> str:
    """A name that leaves room for a number and a suffix in the 255 bytes that names can have."""
    return os.fsencode(stem)[:_LONGEST].decode("utf-8", "ignore") if len(os.fsencode(stem)) > _LONGEST else stem


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as a whole PNG; names in it are shown as elsewhere, control characters escaped."""
    for text in figure.findobj(Text):
        text.set_text(visible(text.get_text(), lines=True))
        text.set_parse_math(False)  # dollars in names are dollars
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def save_json(content: dict[str, Any], path: Path) -> None:
    """Writes plain data as a whole JSON file with its digest, for `sapool.digests.read_json`."""
    write_text(path, json_with_digest(content))
