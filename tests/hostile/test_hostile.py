"""Every kind of hostile input: its corpus and a few more in each run of the suite, some more in the slow tier."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from random import Random

import pytest

from sapool.errors import InputError
from tests.hostile import CANARY, Kind, is_sentence, kinds
from tests.hostile.trying import OTHER, REFUSED, RIGHT, attempt, count, numbers

KINDS = kinds()


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.quick])
def test_a_few(name: str) -> None:
    assert count(KINDS[name], rounds=KINDS[name].quick).failures == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.rounds])
def test_many(name: str) -> None:
    assert count(KINDS[name], rounds=KINDS[name].rounds, seed=1).failures == []


def _kind(judge) -> Kind:
    return Kind("trial", make=lambda random, folder: random.random(), judge=judge, corpus=("one", "two"))


def _open(given: object, folder: Path) -> None:
    try:
        Path(f"/nowhere/{CANARY}").read_bytes()
    except OSError:
        raise InputError("it isn't there") from None


def _make(given: object, folder: Path) -> None:
    (folder / f"x-{CANARY}").touch()


def _refuse(given: object, folder: Path) -> None:
    raise InputError(f"{given} can't be used")


def _garble(given: object, folder: Path) -> None:
    error = InputError()
    error.args = ("\x1b[31m red",)
    raise error


def _stumble(given: object, folder: Path) -> None:
    raise KeyError("format")


def _connect(given: object, folder: Path) -> None:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", 9), timeout=1)


@pytest.mark.parametrize(
    ("judge", "expected"),
    [
        (lambda given, folder: None, RIGHT),
        (_refuse, REFUSED),
        (_garble, OTHER),
        (_stumble, OTHER),
        (_open, OTHER),
        (_make, OTHER),
        (_connect, OTHER),
    ],
)
def test_the_frame_sees_what_it_should(judge, expected) -> None:
    for number in numbers(_kind(judge), 1):
        outcome, said = attempt(_kind(judge), number, 0)
        assert outcome == expected
        assert bool(said) == (expected == OTHER)


def test_an_input_comes_again_from_its_number() -> None:
    made = [kind.make(Random("a"), Path()) for kind in [_kind(_refuse)] * 2]
    assert made[0] == made[1]
    assert list(numbers(_kind(_refuse), 2)) == [-1, -2, 0, 1]


def test_sentences() -> None:
    assert is_sentence("it can't be read\n  ^")
    assert not any(
        map(is_sentence, ["", " ", "a\x07", "x" * 5000, "1 validation error for Recipe", "<A object at 0x1>"])
    )
