"""Values of studies and summaries, which may be anybody's: which numbers they may be, and how words are written."""

from __future__ import annotations

import re

from sapool.errors import visible

_LARGEST = 2**63
_NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?")
_LATEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}


def number(value: object, *, finite: bool = True) -> float:
    """A number of a summary; JSON has infinities, and whole numbers without end.

    Args:
        value: it.
        finite: whether it has to be; a loss may be anything.

    Raises:
        ValueError: it is another thing, or too large.
    """
    if not isinstance(value, (int, float)) or (isinstance(value, int) and abs(value) > _LARGEST):
        raise ValueError("expected a number")
    if finite and not abs(value) <= _LARGEST:  # sums of larger ones end in infinity
        raise ValueError("expected a finite number")
    return float(value)


def whole_number(value: object) -> int:
    """A whole number above 0 of at most 63 bits, as what a network costs is one.

    Raises:
        ValueError: it isn't one.
    """
    if not isinstance(value, int) or not 0 < value < _LARGEST:
        raise ValueError("expected a whole number above 0")
    return value


def for_latex(text: str) -> str:
    """Words that LaTeX prints as they are."""
    return "".join(f"\\{c}" if c in "&%$#_{}" else _LATEX.get(c, c) for c in visible(text))


def for_spreadsheet(text: str) -> str:
    """Words that no spreadsheet takes for a formula, which could start programs: those get an apostrophe in front."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) and not _NUMBER.fullmatch(shown) else shown
