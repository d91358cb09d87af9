"""What is said of a string that isn't of the language: where, what was expected, and the nearest valid spelling."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

from lark import Lark, Token
from lark.exceptions import UnexpectedInput

from sapool.catalogue.backbones import BACKBONES, TIMM
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import ArchitectureError, nearest
from sapool.ir.architecture import Architecture

MODIFIER_WORDS = ("_headfix", "_nowin", "_reduced")
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


class MissingBackboneError(SpellingError):
    """A string that has no word for a backbone; one could stand at `start`."""


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
    odd = re.search(r"[^a-z0-9_.:-]", text)
    if odd is not None:
        return _odd_character(odd.start(), text)
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
    return _misplaced(position, text, tokens, expected)


def _odd_character(position: int, text: str) -> SpellingError:
    """A character that no string of the language has; between two words it was meant to be '-'."""
    plain = unicodedata.normalize("NFKD", text[position])[0].lower()
    if plain.isascii() and plain.isalnum():
        fix = plain
    else:
        inside = position > 0 and text[position - 1].isalnum() and text[position + 1 : position + 2].isalnum()
        fix = "-" if inside else ""
    problem = f"unexpected '{_shown(text[position])}'"
    return SpellingError(position, position + 1, problem, "letters, digits, '-' and '_' only", fix)


def _misplaced(position: int, text: str, tokens: list[Token], expected: set[str]) -> SpellingError:
    """A word that could stand somewhere, but not here."""
    rest = text[position:]
    word, what, filling = _word(rest), _expectation(expected, tokens), _filling(expected, tokens)
    after_dash = tokens[-1:] and tokens[-1].type == "MINUS"
    if after_dash and "_" + word.rstrip("0123456789") in MODIFIER_WORDS:
        what = "modifiers right behind their pooling, joined by '_'"
        replaced = (position - 1, position + len(word))
        return SpellingError(position, position + len(word), f"unexpected '{word}'", what, f"_{word}", replaced)
    if filling and tokens and not after_dash:
        return SpellingError(position, position + 1, f"{what} is missing", what, filling, (position, position))
    if filling and word and "NUMBER" in expected:
        segment = rest.split("-")[0]
        if _is_backbone(segment):
            return SpellingError(
                position, position + len(segment), f"{what} is missing", what, f"{filling}-", (position, position)
            )
        return SpellingError(position, position + len(word), f"'{_shown(word)}' isn't a number", what, filling)
    junk = rest if expected == {"$END"} else rest[: len(word) or 1]
    return SpellingError(position, position + len(junk), f"unexpected '{_shown(junk)}'", what, "")


def no_modifiers(kind: str, start: int, modifier: str) -> SpellingError:
    """The fault of a modifier behind a kind that has no use for it."""
    takers = one_of(name for name, entry in POOLINGS.items() if entry.takes_modifiers)
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
    if word.startswith("_") or last.type in ("NOWIN", "REDUCED", "HEADFIX"):
        return _unknown_modifier(start, text, tokens[:-1])
    end = start + len(word)
    if last.type == "NUMBER":
        digits = word[: len(last)]
        glued = "_" + word[len(last) :]
        fix = digits + glued if glued in MODIFIER_WORDS else digits
        return SpellingError(start, end, f"'{_shown(word)}' isn't a number", "digits only", fix)
    if last.type == "KIND":
        return _unknown_kind(start, text)
    return SpellingError(start, end, f"unexpected '{_shown(word)}'", "'-'", f"{last}-", (start, start + len(last)))


def _unknown_kind(start: int, text: str) -> SpellingError:
    segment, word = text[start:].split("-", maxsplit=1)[0], _word(text[start:])
    # Digits, or a backbone, stand where the pooling should: it was left out.
    if word.isdecimal() or _is_backbone(segment):
        left_out = "nlp-" if word.isdecimal() else "nlp-4-"
        return SpellingError(
            start, start + len(segment), "a pooling is missing", one_of(POOLINGS), left_out, (start, start)
        )
    if not word:
        doubled = text[start : start + 1] == "-" and _word(text[start + 1 :]) in POOLINGS
        problem, fix = ("unexpected '-'", "") if doubled else ("a pooling is missing", "nlp")
        return SpellingError(
            start, start + 1, problem, one_of(POOLINGS), fix, (start, start + 1) if doubled else (start, start)
        )
    known = max((kind for kind in POOLINGS if word.startswith(kind)), key=len, default="")
    behind = word.removeprefix(known)
    if known and behind.isdecimal():
        expected = f"'-' between '{known}' and '{behind}'"
        return SpellingError(start, start + len(word), f"unknown pooling '{word}'", expected, f"{known}-{behind}")
    # A kind may itself hold an underscore: take the reading that comes nearest to a valid one.
    near = nearest(segment, POOLINGS, cutoff=0.8)
    if near is not None and "_" in near:
        word = segment
    elif known and f"_{behind}" in MODIFIER_WORDS:
        near = f"{known}_{behind}"
    else:
        near = nearest(word, POOLINGS, cutoff=0.5) or "nlp"
    return SpellingError(start, start + len(word), f"unknown pooling '{_shown(word)}'", one_of(POOLINGS), near)


def _unknown_modifier(start: int, text: str, before: list[Token]) -> SpellingError:
    word = "_" + _word(text[start + 1 :])
    end = start + len(word)
    kind = next(token for token in reversed(before) if token.type == "KIND")
    backbone = next((token for token in before if token.type == "BACKBONE"), None)
    problem, expected = f"unknown modifier '{_shown(word)}'", one_of(MODIFIERS)
    if word == "_v2" and backbone is not None:
        moved = "_v2" + text[backbone.end_pos : start]
        return SpellingError(start, end, problem, "'_v2' behind the backbone", moved, (backbone.end_pos or 0, end))
    if kind + word[1:] in POOLINGS:
        return SpellingError(start, end, problem, expected, word[1:])
    if not POOLINGS[kind].takes_modifiers:
        return no_modifiers(kind, start, word)
    if word[1:].isdecimal() and text[end:] == "":
        return SpellingError(start, end, problem, expected, f"-{word[1:]}")
    for known in MODIFIER_WORDS:  # two of them glued together
        if word.startswith(known) and "_" + word.removeprefix(known) in MODIFIER_WORDS:
            return SpellingError(start, end, problem, expected, f"{known}_{word.removeprefix(known)}")
    stem = word.rstrip("0123456789")
    near = nearest(stem, MODIFIER_WORDS, cutoff=0.4)
    numbers = {"_headfix": word[len(stem) :] or "2", "_reduced": word[len(stem) :]}
    return SpellingError(start, end, problem, expected, near + numbers.get(near, "") if near else "")


def _is_backbone(word: str) -> bool:
    return word in BACKBONES or _bare(word) in BACKBONES or word.startswith(TIMM)


def _bare(word: str) -> str:
    return word.removeprefix("dy").removesuffix("_v2")


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
    entry = BACKBONES.get(name) or BACKBONES.get(_bare(name))
    return "the strides, one digit per stage", (entry.strides if entry else "") or "1222"


def _expectation(expected: set[str], tokens: list[Token]) -> str:
    """What could have followed `tokens`, in words."""
    words = {
        "PREPOOL": "'prepool-'",
        "BACKBONE": "a backbone",
        "KIND": f"a pooling ({one_of(POOLINGS)})",
        "NUMBER": _number_wanted(tokens)[0],
        "MINUS": "'-'",
        "$END": "the end of the string",
    }
    kinds = [str(token) for token in tokens if token.type == "KIND"]
    if kinds and POOLINGS[kinds[-1]].takes_modifiers and "NOWIN" in expected:
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
