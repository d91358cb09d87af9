"""The mistakes a user can make, each with a sentence that says what, where, and what to do.

Everything derived from `InputError` is the user's to mend: the command line prints it without a traceback and exits
with code 2. Our own mistakes are assertions and are never caught.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec

LONGEST = 1500
"""Characters of a message; what is longer is cut."""


def visible(text: str, *, lines: bool = False) -> str:
    """Text that a terminal or a page shows as it is: control characters, bidirectional overrides and the like escaped.

    Names come from files, and could otherwise move the cursor, hide what stands beside them, or pass for our own lines.

    Args:
        text: what is to be shown.
        lines: whether its line ends are ours.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode("ascii") for c in text
    )


def brief(value: object, length: int = 80) -> str:
    """How a value is written, visibly, and cut where it is long."""
    try:
        text = visible(repr(value))
    except (ValueError, RecursionError):  # numbers of thousands of digits; what is nested too deep
        return f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= length else f"{text[: length // 2]}... ({len(text):,} characters)"


def some_of(parts: Iterable[str], most: int = 5, separator: str = "; ") -> str:
    """The first few of many things that are to be said, and how many more there are."""
    parts = list(parts)
    more = f"{separator}and {len(parts) - most:,} more" if len(parts) > most else ""
    return separator.join(parts[:most]) + more


def _message(text: str, *, lines: bool) -> str:
    shown = visible(text, lines=lines)
    cut = len(shown) - LONGEST
    return shown if lines or cut <= 0 else f"{shown[:LONGEST]}... ({cut:,} more characters)"


class InputError(ValueError):
    """The input is wrong. The message is one or a few whole sentences, fit to be shown as it is.

    Attributes:
        lines: whether line ends in the message are ours; elsewhere they came with a name, and are escaped.
        given: the message as it came; of an error in a worker of torch's that is a traceback.
    """

    lines = False

    def __init__(self, message: str = "") -> None:
        self.given = str(message)
        super().__init__(_message(str(message), lines=self.lines))


class DiagnosedError(InputError):
    """Diagnostics that were to be errors, a paragraph each."""

    lines = True


class RecipeError(InputError):
    """A recipe or one of its overrides can't be used."""


class WeightsError(InputError):
    """A file of weights is unreadable, or doesn't belong to the model."""


class NoDigestWarning(UserWarning):
    """A file of ours has no digest to check it by: it was edited, or an earlier version wrote it."""


class MissingExtraError(InputError, ImportError):
    """Packages that an installation may leave out are needed, and aren't installed."""


def require_extra(extra: str, purpose: str, packages: Iterable[str]) -> None:
    """Makes sure that the packages of an extra are installed; imports none of them.

    Args:
        extra: of this project, as pip takes it.
        purpose: what needs it; starts the sentence.
        packages: as they are imported.

    Raises:
        MissingExtraError: some aren't installed.
    """
    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise MissingExtraError(
            f"{purpose} needs {', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed; install "
            f'what it needs with: pip install "sapool[{extra}]"'
        )


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def named(error: BaseException, most: int | None = None) -> str:
    """Another library's error by its type and what it says, in one line of at most so many characters."""
    return f"{type(error).__name__}: {first_line(error)[:most]}"


class WorkError(RuntimeError):
    """The work failed though the input was right. The message is fit to be shown as it is; the exit code is 1."""

    def __init__(self, message: str = "") -> None:
        super().__init__(_message(str(message), lines=False))


class ArchitectureError(InputError):
    """An architecture string that isn't of the language.

    Attributes:
        text: the whole string as it was given.
        start, end: the offending part is `text[start:end]`; it may be empty, where something is missing.
        problem: what is wrong, in a sentence without a full stop.
        expected: what could have stood there, or "".
        suggestion: the nearest valid spelling, or None where there is none near enough.
    """

    lines = True

    def __init__(
        self, text: str, start: int, end: int, problem: str, *, expected: str = "", suggestion: str | None = None
    ) -> None:
        self.text, self.start, self.end = text, start, end
        self.problem, self.expected, self.suggestion = problem, expected, suggestion
        lines = [visible(problem), *_caret(text, start, end)]
        if expected:
            lines.append(f"expected {visible(expected)}")
        if suggestion is not None:
            lines.append(f"nearest valid spelling: {visible(suggestion)}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by their args, which are the formatted message; worker processes need the parts.
        return _rebuild, (self.text, self.start, self.end, self.problem, self.expected, self.suggestion)


def _rebuild(text: str, start: int, end: int, problem: str, expected: str, suggestion: str | None) -> ArchitectureError:
    return ArchitectureError(text, start, end, problem, expected=expected, suggestion=suggestion)


def _caret(text: str, start: int, end: int, width: int = 72) -> tuple[str, str]:
    """The string and a line of carets under its offending part; a long string is cut to a window around it."""
    # One column a character, so that the caret stands where it should whatever was typed.
    shown = "".join(c if " " <= c <= "~" else "?" for c in text)
    first = max(0, min(start - width // 2, len(shown) - width))
    window = shown[first : first + width]
    left, right = "..." if first else "", "..." if first + width < len(shown) else ""
    marks = max(1, min(end, first + width) - start)
    return f"  {left}{window}{right}", "  " + " " * (len(left) + start - first) + "^" * marks


def nearest(word: str, valid: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The valid spelling closest to `word`, or None where none is near."""
    matches = difflib.get_close_matches(word, list(valid), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """The sentence "Did you mean 'x'?" behind a space, or nothing where no valid spelling is near."""
    found = nearest(word, valid)
    return f" Did you mean '{found}'?" if found else ""


class PlanError(InputError):
    """A plan that contradicts itself or its backbone.

    Attributes:
        site: which of its sites, or "" where it is about the plan as a whole.
        field: which of the site's fields.
    """

    def __init__(self, site: str, field: str, problem: str) -> None:
        self.site, self.field, self.problem = site, field, problem
        super().__init__(f"plan: {'.'.join(part for part in (site, field) if part)}: {problem}")

    def __reduce__(self) -> tuple[object, ...]:
        return PlanError, (self.site, self.field, self.problem)
