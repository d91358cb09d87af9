"""What is said of a string that isn't of the language: where, what was expected, and the nearest valid spelling."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from lark import Lark, Token
from lark.exceptions import UnexpectedInput

from sapool.architecture import Architecture
from sapool.backbones import BACKBONES
from sapool.errors import ArchitectureError, nearest
from sapool.kinds import KINDS

MODIFIERS = ("_headfix<N>", "_nowin", "_reduced", "_reduced<one digit per stage>")


class SpellingError(Exception):
    """One offending part of a string.

    Attributes:
        start, end: the part is `text[start:end]`.
        problem, expected: what is wrong there, and what could have stood there.
        fix: text that would mend it in place of `text[replace[0]:replace[1]]` ("" deletes), or None.
        replace: what `fix` replaces; the offending part itself by default.
    """

    def __init__(
        self,
        start: int,
        end: int,
        problem: str,
        expected: str,
        fix: str | None = None,
        replace: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(problem)
        self.start, self.end, self.problem, self.expected, self.fix = start, end, problem, expected, fix
        self.replace = replace or (start, end)


def explain(text: str, fault: SpellingError, read: Callable[[str], Architecture | SpellingError]) -> ArchitectureError:
    """The error for a fault; its suggestion is the whole string, mended fault by fault until it is valid."""
    suggestion, current, trial = None, fault, text
    for _ in range(12):  # every part of a string may be wrong or missing, but none twice
        if current.fix is None:
            break
        begin, stop = current.replace
        trial = trial[:begin] + current.fix + trial[stop:]
        outcome = read(trial)
        if isinstance(outcome, Architecture):
            suggestion = str(outcome)
            break
        current = outcome
    return ArchitectureError(
        text, fault.start, fault.end, fault.problem, expected=fault.expected, suggestion=suggestion
    )


def explain_syntax(parser: Lark, text: str, resolve: Callable[[Token], object]) -> SpellingError:
    """The fault behind an error of the lexer or the parser; `resolve` raises the fault of an unknown backbone."""
    tokens, expected = _before(parser, text)
    for token in tokens:  # an unknown first word explains more than whatever it led the parser into
        if token.type == "BACKBONE":
            try:
                resolve(token)
            except SpellingError as fault:
                return fault
    position = (tokens[-1].end_pos or 0) if tokens else 0
    rest = text[position:]
    if not rest:
        what = _expectation(expected, tokens)
        return SpellingError(position, position, "the string ends too early", what, _filling(expected, tokens))
    if tokens and rest[0] not in "-_" and tokens[-1].type != "MINUS":
        # A word that goes on where it should have ended is wrong as a whole: 'nlpx' is no 'nlp' with an 'x' behind it.
        return _overlong(tokens, text)
    if "KIND" in expected:
        return _unknown_kind(position, text)
    if rest[0] == "_" and "NOWIN" in expected:
        return _unknown_modifier(position, text, tokens)
    if rest[0] == "-" and tokens and tokens[-1].type != "MINUS" and _filling(expected, tokens):
        what = _expectation(expected, tokens)
        return SpellingError(
            position, position + 1, f"{what} is missing", what, _filling(expected, tokens), (position, position)
        )
    junk = rest if expected == {"$END"} else rest[: len(_word(rest)) or 1]
    return SpellingError(
        position, position + len(junk), f"unexpected '{_shown(junk)}'", _expectation(expected, tokens), ""
    )


def no_modifiers(kind: str, start: int, modifier: str) -> SpellingError:
    """The fault of a modifier behind a kind that has no use for it."""
    takers = one_of(name for name, entry in KINDS.items() if entry.takes_modifiers)
    problem = f"'{kind}' takes no modifiers, but '{_shown(modifier)}' follows it"
    return SpellingError(start, start + len(modifier), problem, f"modifiers only after {takers}", "")


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _before(parser: Lark, text: str) -> tuple[list[Token], set[str]]:
    """The tokens before the error, and the terminals that could have followed them."""
    interactive = parser.parse_interactive(text)
    tokens: list[Token] = []
    try:
        tokens.extend(interactive.iter_parse())
        return tokens, set(interactive.accepts())  # type: ignore[no-untyped-call]
    except UnexpectedInput:
        # The state before the refused token: the parser's own may already have reduced on it.
        state = parser.parse_interactive("")
        for token in tokens:
            state.feed_token(token)
        return tokens, set(state.accepts())  # type: ignore[no-untyped-call]


def _overlong(tokens: list[Token], text: str) -> SpellingError:
    last = tokens[-1]
    start, word = last.start_pos or 0, _word(text[last.start_pos :])
    end = start + len(word)
    if last.type == "KIND":
        digits = word.removeprefix(last)
        if digits.isdecimal():
            return SpellingError(
                start, end, f"unknown pooling '{word}'", f"'-' between '{last}' and '{digits}'", f"{last}-{digits}"
            )
        return _unknown_kind(start, text)
    if last.type == "NUMBER":
        digits = "".join(c for c in word if c in "0123456789")
        return SpellingError(start, end, f"'{_shown(word)}' isn't a number", "digits only", digits)
    if last.type in ("NOWIN", "REDUCED", "HEADFIX"):
        return _unknown_modifier(start, text, tokens[:-1])
    junk = word.removeprefix(last)
    return SpellingError(start, end, f"unexpected '{_shown(word)}'", "letters, digits, '_', '.' or ':', then '-'", "",
                 (end - len(junk), end))  # fmt: skip


def _unknown_kind(start: int, text: str) -> SpellingError:
    segment, word = text[start:].split("-", maxsplit=1)[0], _word(text[start:])
    # Digits, or a backbone, stand where the pooling should: it was left out.
    if not word or word.isdecimal() or segment.removeprefix("dy").removesuffix("_v2") in BACKBONES:
        left_out = {"": "nlp"}.get(word, "nlp-" if word.isdecimal() else "nlp-4-")
        return SpellingError(
            start, start + max(1, len(segment)), "a pooling is missing", one_of(KINDS), left_out, (start, start)
        )
    # A kind may itself hold an underscore: take the reading that comes nearest to a valid one.
    if (near := nearest(segment, KINDS, cutoff=0.8)) is not None and "_" in near:
        word = segment
    fix = near if word == segment and near else nearest(word, KINDS, cutoff=0.0)
    return SpellingError(start, start + len(word), f"unknown pooling '{_shown(word)}'", one_of(KINDS), fix)


def _unknown_modifier(start: int, text: str, before: list[Token]) -> SpellingError:
    word = "_" + _word(text[start + 1 :])
    kind = next(str(token) for token in reversed(before) if token.type == "KIND")
    if not KINDS[kind].takes_modifiers:
        return no_modifiers(kind, start, word)
    stem = word.rstrip("0123456789")
    near = nearest(stem, ["_headfix", "_nowin", "_reduced"], cutoff=0.0)
    numbers = {"_headfix": word[len(stem) :] or "2", "_reduced": word[len(stem) :]}
    fix = near + numbers.get(near, "") if near else ""
    return SpellingError(start, start + len(word), f"unknown modifier '{_shown(word)}'", one_of(MODIFIERS), fix)


def _word(text: str) -> str:
    """The letters and digits up to the next '-' or '_'."""
    return re.split(r"[-_]", text, maxsplit=1)[0]


def _number_wanted(tokens: list[Token]) -> tuple[str, str]:
    """What a NUMBER after `tokens` stands for, and one that would do."""
    types = [token.type for token in tokens]
    if types[-1:] == ["HEADFIX"]:
        return "a number of heads", "2"
    if "PREPOOL" in types and "BACKBONE" not in types:
        return "the prepool's stride", "4"
    name = next((str(token) for token in tokens if token.type == "BACKBONE"), "resnet18")
    return "the strides, one digit per stage", BACKBONES[name.removeprefix("dy").removesuffix("_v2")].strides


def _expectation(expected: set[str], tokens: list[Token]) -> str:
    """What could have followed `tokens`, in words."""
    words = {
        "PREPOOL": "'prepool-'",
        "BACKBONE": "a backbone",
        "KIND": f"a pooling ({one_of(KINDS)})",
        "NUMBER": _number_wanted(tokens)[0],
        "MINUS": "'-'",
        "$END": "the end of the string",
    }
    kinds = [str(token) for token in tokens if token.type == "KIND"]
    if kinds and KINDS[kinds[-1]].takes_modifiers and "NOWIN" in expected:
        words["NOWIN"] = "a modifier"
    if tokens and tokens[-1].type == "REDUCED":
        words["NUMBER"] = "one patch size per stage"
    return one_of(text for terminal, text in words.items() if terminal in expected)


def _filling(expected: set[str], tokens: list[Token]) -> str | None:
    """The plainest text that could stand where something is missing."""
    fillings = {"BACKBONE": "resnet18", "KIND": "nlp", "MINUS": "-", "NUMBER": _number_wanted(tokens)[1]}
    return next((text for terminal, text in fillings.items() if terminal in expected), None)


def _shown(text: str) -> str:
    """A piece of the user's string, fit for one line of a message."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in text)
    return clean if len(clean) <= 40 else clean[:37] + "..."
