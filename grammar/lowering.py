"""From the parse tree to the `Architecture`, with every check that the syntax can't make."""

from __future__ import annotations

from lark import Token, Tree

from sapool.catalogue.backbones import BACKBONES, OWN, TIMM
from sapool.catalogue.poolings import POOLINGS, REDUCED_PATCHES
from sapool.errors import nearest
from sapool.grammar.diagnosis import MissingBackboneError, SpellingError, no_modifiers
from sapool.ir.architecture import Architecture, PoolingSpec, Prepool

# Upper bounds that no network needs, so that a slip of the keyboard is an error and not an allocation.
_MOST_HEADS, _LARGEST_PREPOOL = 4096, 256


def lower(tree: Tree[Token]) -> Architecture:
    """The architecture that a parse tree spells.

    Raises:
        SpellingError: a word, a number or a combination of them that the language doesn't have.
    """
    prepool, name, pooling, strides = tree.children
    assert isinstance(name, Token)
    assert isinstance(strides, Token)
    assert isinstance(pooling, Tree)
    dynamic, backbone, first_block = resolve(name)
    known = BACKBONES.get(backbone)
    # The stages of others are known when they are measured, and counted then.
    digits = strides_of(strides, backbone, (known.strides if known else "") or "1" * len(strides))
    return Architecture(
        backbone=backbone,
        pooling=_pooling(pooling, digits),
        strides=digits,
        prepool=_prepool(prepool) if isinstance(prepool, Tree) else None,
        dynamic=dynamic,
        first_block=first_block,
    )


def spellings() -> list[str]:
    """Every word of the catalogue that may stand for a backbone."""
    return [dy + name + v2 for name in BACKBONES for dy in ("", "dy") for v2 in ("", "_v2")]


def resolve(word: Token) -> tuple[bool, str, bool]:
    """Splits a backbone's word into `dy`, its name, and `_v2`, which names may also begin or end with."""
    found = [
        (dynamic, name, first_block)
        for dynamic in (False, True)
        for first_block in (False, True)
        for name in [_between(word, "dy" if dynamic else "", "_v2" if first_block else "")]
        if name is not None and (name in BACKBONES or name == OWN or _of_timm(name, word))
    ]
    if len(found) == 1:
        return found[0]
    start, end = word.start_pos or 0, word.end_pos or len(word)
    if found:
        (_, longer, _), (_, shorter, _) = sorted(found, key=lambda reading: -len(reading[1]))
        raise SpellingError(
            start,
            end,
            f"'{word}' is the backbone {longer}, or {shorter} with '_v2', pools after the first block",
            f"a pretrained tag behind the name that is meant: {longer}.<tag> or {shorter}.<tag>_v2",
        )
    expected = (
        "a backbone (sapoolc list backbones) or timm:<name>, with 'dy' in front for dynamic convolutions, '_v2' behind "
        "for pools after the first block; or 'prepool-'"
    )
    if any(word == kind or word.startswith(f"{kind}_") for kind in POOLINGS):
        raise MissingBackboneError(start, end, "a backbone is missing", expected, "resnet18-", (start, start))
    dashed = word.replace("_", "-")
    if dashed != word and dashed.split("-")[0] in (*spellings(), "prepool"):
        raise SpellingError(start, end, f"unknown backbone '{word}'", "'-' between the parts", dashed)
    if word == "dy":
        raise SpellingError(
            start, end, "'dy' stands alone", "'dy' right in front of the backbone", "dy", (start, end + 1)
        )
    near = "resnet18" if word == "prepool" else nearest(word, [*spellings(), "prepool"]) or "resnet18"
    raise SpellingError(start, end, f"unknown backbone '{word}'", expected, near)


def _between(word: str, prefix: str, suffix: str) -> str | None:
    if not (word.startswith(prefix) and word.endswith(suffix)):
        return None
    return word[len(prefix) : len(word) - len(suffix)]


def _of_timm(name: str, word: str) -> bool:
    """Whether timm may have this backbone. It is asked only where a word can be read in two ways: that loads torch."""
    if not name.startswith(TIMM) or name == TIMM:
        return False
    if not word.endswith("_v2"):
        return True
    from sapool.catalogue.builders import import_timm  # noqa: PLC0415

    model, _, tag = name.removeprefix(TIMM).partition(".")
    return bool(import_timm().is_model(model)) and not tag.endswith("_v2")


def strides_of(word: Token, backbone: str, unchanged: str) -> tuple[int, ...]:
    """The strides that digits spell, one for each of `unchanged`."""
    stages = len(unchanged)
    if len(word) != stages:
        raise _at(
            word,
            f"{backbone} has {stages} stages, but '{word}' has {len(word)} digit{'s' if len(word) > 1 else ''}",
            f"{stages} digits, one per stage, for instance {unchanged}",
            (word + unchanged[len(word) :])[:stages],
        )
    if (place := word.find("0")) >= 0:
        start = (word.start_pos or 0) + place
        problem, expected = f"a stride of 0 at stage {place + 1}", "digits from 1 to 9; 1 keeps the resolution"
        whole = (word.start_pos or 0, word.end_pos or 0)
        raise SpellingError(start, start + 1, problem, expected, word.replace("0", "1"), whole)
    return tuple(int(digit) for digit in word)


def _prepool(tree: Tree[Token]) -> Prepool:
    _, pooling, stride = tree.children
    assert isinstance(pooling, Tree)
    assert isinstance(stride, Token)
    value = _number(stride, _LARGEST_PREPOOL, "the prepool's stride")
    return Prepool(_pooling(pooling, None), value)


def _number(word: Token, most: int, what: str) -> int:
    # Compared by length first: int() itself refuses thousands of digits.
    digits = word.lstrip("0")
    if digits != word or len(word) > len(str(most)) or int(word) > most:
        fits = len(digits) <= len(str(most)) and int(digits or "1") <= most
        raise _at(
            word, f"{what} can't be '{word}'", f"a number from 1 to {most}", (digits or "1") if fits else str(most)
        )
    return int(word)


def _pooling(tree: Tree[Token], strides: tuple[int, ...] | None) -> PoolingSpec:
    """A pooling; `strides` are the stages', or None for a prepool."""
    kind, *modifiers = tree.children
    assert isinstance(kind, Token)
    headfix: int | None = None
    nowin = False
    reduced: bool | tuple[int, ...] = False
    seen: set[str] = set()
    for modifier in modifiers:
        assert isinstance(modifier, Tree)
        word, *number = (token for token in modifier.children if isinstance(token, Token))
        whole = Token("MODIFIER", "".join([word, *number]), start_pos=word.start_pos)
        whole.end_pos = (number[-1] if number else word).end_pos
        if not POOLINGS[str(kind)].takes_modifiers:
            raise no_modifiers(str(kind), whole.start_pos or 0, whole)
        if word.type in seen:
            raise _at(whole, f"the modifier '{word}' stands twice", "each modifier at most once", "")
        seen.add(word.type)
        if word.type == "HEADFIX":
            headfix = _number(number[0], _MOST_HEADS, "the number of heads")
        elif word.type == "NOWIN":
            nowin = True
        else:
            reduced = _patches(word, number[0] if number else None, strides)
    return PoolingSpec(str(kind), headfix, nowin, reduced)


def _patches(word: Token, digits: Token | None, strides: tuple[int, ...] | None) -> bool | tuple[int, ...]:
    """The value of `reduced` or `reduced<digits>`."""
    if digits is None:
        if strides is not None and len(strides) not in REDUCED_PATCHES:
            raise _at(
                word,
                f"'_reduced' isn't defined for {len(strides)} stages",
                "'_reduced' with one digit per stage",
                "_reduced" + "1" * len(strides),
            )
        return True
    if strides is None:
        raise _at(
            digits,
            f"a prepool has no stages for the digits '{digits}'",
            "'_reduced' alone: its patch is its stride",
            "",
        )
    if len(digits) != len(strides):
        fitted = (digits + "1" * len(strides))[: len(strides)]
        raise _at(
            digits, f"'{digits}' has {len(digits)} digits for {len(strides)} stages", "one patch size per stage", fitted
        )
    for place, (digit, stride) in enumerate(zip(digits, strides, strict=True)):
        if digit == "0" and stride > 1:
            fitted = "".join("1" if d == "0" and s > 1 else d for d, s in zip(digits, strides, strict=True))
            position = (digits.start_pos or 0) + place
            raise SpellingError(
                position,
                position + 1,
                f"a patch size of 0 at stage {place + 1}, which has stride {stride}",
                "0 only where the stage's stride is 1",
                fitted,
                replace=(digits.start_pos or 0, digits.end_pos or 0),
            )
    return tuple(int(digit) for digit in digits)


def _at(word: Token, problem: str, expected: str, fix: str | None) -> SpellingError:
    return SpellingError(word.start_pos or 0, word.end_pos or 0, problem, expected, fix)
