"""The front of the compiler: text to `Architecture`. Lark (LALR), no torch.

`parse` is the only name others need. The syntax stands in `architecture.lark`, its meaning in `lowering`, and what is
said of a string that isn't of the language in `diagnosis`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from lark import Lark, Token
from lark.exceptions import UnexpectedInput

from sapool.catalogue.backbones import OWN
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import ArchitectureError
from sapool.grammar.diagnosis import MissingBackboneError, SpellingError, explain, explain_syntax
from sapool.grammar.lowering import lower, resolve, strides_of
from sapool.ir.architecture import Architecture

# Letters are folded one by one: str.lower() may change a string's length, and then a caret would point elsewhere.
_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")

# No string of the language comes near this; the bound keeps hostile input from costing time.
_LONGEST = 500


def parser(*, strict: bool = False) -> Lark:
    """The LALR parser for the poolings that there are, built on first use.

    Args:
        strict: make sure first that no two words collide. The tests do; it takes a package more (interegular), and
            longer than most compiles.
    """
    return _parser(tuple(POOLINGS), strict)


@cache
def _parser(kinds: tuple[str, ...], strict: bool) -> Lark:
    grammar = files("sapool.grammar").joinpath("architecture.lark").read_text(encoding="utf-8")
    words = " | ".join(f'"{kind}"' for kind in kinds)
    return Lark(f"{grammar}\nKIND.1: {words}\n", parser="lalr", strict=strict, maybe_placeholders=True)


def parse(text: str, *, own: bool = False) -> Architecture:
    """Reads an architecture string such as `prepool-nlp-4-resnet18-nlp-1222`.

    Case doesn't matter, and modifiers may come in any order; `str()` of the result is the canonical text.

    Args:
        text: the string.
        own: whether the backbone is the caller's own module, so that its name may be left out (`nlp-1222`).

    Raises:
        ArchitectureError: the string isn't of the language. Its message shows the string, the offending part, what
            was expected there, and the nearest valid spelling.
    """
    try:
        return _read(text)
    except MissingBackboneError as fault:
        if own:
            return parse(f"{text[: fault.start]}{OWN}-{text[fault.start :]}")
        raise explain(text, fault, _accepts) from None
    except SpellingError as fault:
        raise explain(text, fault, _accepts) from None


def check_strides(architecture: Architecture, unchanged: str) -> None:
    """Passes where an architecture has a stride for each stage; `unchanged` are the backbone's own, as measured.

    Raises:
        ArchitectureError: it has another number of them.
    """
    text = str(architecture)
    digits = Token("NUMBER", "".join(map(str, architecture.strides)), start_pos=len(text) - len(architecture.strides))
    digits.end_pos = len(text)
    try:
        strides_of(digits, architecture.backbone, unchanged)
    except SpellingError as fault:
        raise explain(text, fault, _accepts) from None


def _read(text: str) -> Architecture:
    if not isinstance(text, str):
        raise ArchitectureError(str(text), 0, len(str(text)), f"an architecture is a string, not {type(text).__name__}")
    if len(text) > _LONGEST:
        raise ArchitectureError(text, _LONGEST, len(text), f"an architecture has at most {_LONGEST} characters")
    folded = text.translate(_FOLD)
    try:
        tree = parser().parse(folded)
    except UnexpectedInput:
        raise explain_syntax(parser(), folded, resolve) from None
    return lower(tree)


def _accepts(text: str) -> Architecture | SpellingError:
    """The architecture that `text` spells, or what is wrong with it."""
    try:
        return _read(text)
    except SpellingError as fault:
        return fault
