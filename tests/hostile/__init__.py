"""Hostile input: fuzzers with seeds, a corpus of every defect ever found, and one table of what came of it.

A *kind* of input is one entry of data, a `Kind`: something that makes an input, and something that gives it to the
library and knows what would be right. To add one, put a file into this folder whose `KINDS` is a tuple of them::

    KINDS = (Kind("strings", make=some_string, judge=parse_it, corpus=("dydy", "a" * 10_000)),)

Everything else finds it there: `python -m tests.hostile --minutes 30` gives every kind its share of the time and prints
the table of docs/reliability.md, `pytest -m slow tests/hostile` tries `rounds` of each, and every run of the suite its
corpus and `quick` more.

What one try comes to:

* **refused**: `judge` raises `InputError` or `WorkError` with a sentence (`is_sentence`);
* **right**: `judge` returns, having checked that what was accepted is what it should be;
* **anything else**: any other exception, an `AssertionError` of `judge` included; a process that died; one that took
  longer than `Kind.seconds` or more than `Kind.megabytes`; one that started a program, connected to anything, or opened
  a file whose name has `CANARY` in it, or made one. There has to be none.

Each kind is tried in a process of its own, forked from one that has loaded torch and the package, so `judge` may break
what it likes. Failures are told with their number: `python -m tests.hostile --kind NAME --only NUMBER` tries it again
and shows the traceback.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

CANARY = "zzcanary"
"""Part of the names of files that no input may get opened or made, though it names them: `str(folder / CANARY)`."""


@dataclass(frozen=True)
class Kind:
    """One kind of hostile input.

    Attributes:
        name: in the table.
        make: an input, from a source of numbers (seeded with the kind, `--seed` and the try's number), and the try's
            own empty folder, where it may write files. What it gives is shown by `repr` where it is a failure.
        judge: gives an input to the library; see above. The folder is the same, and goes afterwards.
        corpus: inputs that were defects once, or seemed likely to be; tried first, always all of them.
        rounds: how many more the slow tier tries (0: the command alone); keep the whole folder under three minutes.
        quick: how many every run of the suite tries; that of all kinds should take under 15 seconds.
        seconds: the longest that a try may take.
        megabytes: the most memory that the process may hold at once, the package's own half a gigabyte included.
        starts: whether trying it starts processes of ours (workers, commands that are killed): programs are allowed.
        setting_up: called once in the process before the first try; what is made there stays for all of them.
    """

    name: str
    make: Callable[[Random, Path], Any]
    judge: Callable[[Any, Path], None]
    corpus: tuple[Any, ...] = ()
    rounds: int = 20
    quick: int = 3
    seconds: float = 60
    megabytes: int = 2048
    starts: bool = False
    setting_up: Callable[[], None] | None = None


def kinds() -> dict[str, Kind]:
    """Every kind of every file in this folder, by name, in the order of the files' names."""
    found: dict[str, Kind] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        if module.startswith(("test_", "__")):
            continue
        for kind in getattr(importlib.import_module(f"{__name__}.{module}"), "KINDS", ()):
            assert kind.name not in found, f"two kinds are called {kind.name}"
            found[kind.name] = kind
    return found


def is_sentence(said: str) -> bool:
    """Whether a message may be shown to a person as it is."""
    odd = ("Traceback (most recent call last)", " object at 0x", "validation error", "errors.pydantic.dev")
    plain = all(c == "\n" or c.isprintable() for c in said)
    return bool(said.strip()) and len(said) <= 2000 and plain and not any(mark in said for mark in odd)
