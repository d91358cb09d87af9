"""What a file of a graph may be called. No torch: a name is refused before it is loaded."""

from __future__ import annotations

from sapool.errors import InputError

SUFFIXES = (".html", ".svg", "model-explorer.json")


def check_suffix(path: str) -> None:
    """Passes where a file's name says what is written.

    Raises:
        InputError: it says something else.
    """
    if not path.endswith(SUFFIXES):
        raise InputError(f"{path}: a graph is written as .html, .svg or NAME.model-explorer.json")
