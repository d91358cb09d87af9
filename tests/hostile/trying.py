"""Trying a kind of input in a process of its own, watched for what no input may bring about."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from sapool.errors import InputError, WorkError
from tests.hostile import CANARY, Kind, is_sentence, kinds

REFUSED, RIGHT, OTHER = "refused", "right", "anything else"
_PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn", "os.startfile")
_CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "http.client.connect")
_SLACK = 60  # seconds for a process to begin in

# Forked from one that has loaded what takes seconds to load.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["sapool", "tests.hostile.trying"])


@dataclass
class Count:
    """What came of the tries of a kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return sum(self.outcomes.values())

    def add(self, number: int, outcome: str, said: str) -> None:
        self.outcomes[outcome] += 1
        if outcome == OTHER:
            self.failures.append(f"{self.kind} --only {number}: {said}")


def numbers(kind: Kind, rounds: int | None) -> Iterator[int]:
    """The corpus as -1, -2, ..., then 0, 1, ...: so many, or for ever."""
    yield from range(-1, -len(kind.corpus) - 1, -1)
    number = 0
    while rounds is None or number < rounds:
        yield number
        number += 1


def attempt(kind: Kind, number: int, seed: int, *, debug: bool = False) -> tuple[str, str]:
    """One try, in this process; returns what it came to, and where that is a failure what was seen."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    held_before = _megabytes()
    watch.begin(kind)
    given: Any = None
    try:
        with (
            contextlib.chdir(folder),
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            made = Random(f"{kind.name}:{seed}:{number}")
            given = kind.corpus[-number - 1] if number < 0 else kind.make(made, folder)
            kind.judge(given, folder)
        outcome, said = RIGHT, ""
    except (InputError, WorkError) as error:
        outcome, said = REFUSED, str(error)
        if not is_sentence(said):
            outcome, said = OTHER, f"no sentence: {said[:300]!r}"
    except Exception as error:
        if debug:
            traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        outcome, said = (
            OTHER,
            f"{type(error).__name__}: {str(error)[:300]} ({Path(frame.filename).name}:{frame.lineno})",
        )
    for seen in (*watch.end(), *_left(folder)):
        outcome, said = OTHER, f"{seen}; {said}"
    shutil.rmtree(folder, ignore_errors=True)
    held = _megabytes()
    if held > max(kind.megabytes, held_before):
        outcome, said = OTHER, f"held {held:.0f} MB; {said}"
    return outcome, f"{said} <- {repr(given)[:400]}" if outcome == OTHER else ""


def _megabytes() -> float:
    """The most that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _left(folder: Path) -> list[str]:
    return [f"made {path.name}" for path in folder.rglob(f"*{CANARY}*") if not path.name.endswith(".given")]


class _Watch:
    """Hears what the process asks of the system while an input is tried. A hook, once added, stays; this one sleeps."""

    def __init__(self) -> None:
        self.kind: Kind | None = None
        self.seen: list[str] = []
        self.added = False

    def begin(self, kind: Kind) -> None:
        if not self.added:
            sys.addaudithook(self._hear)
            self.added = True
        self.kind, self.seen = kind, []

    def end(self) -> list[str]:
        self.kind = None
        return self.seen

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.kind is None:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)) and CANARY in os.fsdecode(arguments[0]):
            self.seen.append(f"opened {os.fsdecode(arguments[0])}")
        elif (event in _PROGRAMS and not self.kind.starts) or event in _CONNECTIONS:
            self.seen.append(f"{event} {str(arguments)[:100]}")


watch = _Watch()


def count(kind: Kind, *, seed: int = 0, rounds: int | None = None, minutes: float | None = None) -> Count:
    """Tries a kind, so many rounds or so long; begins another process where one dies or hangs."""
    counted = Count(kind.name)
    left = None if minutes is None else 60 * minutes
    todo = list(numbers(kind, rounds)) if rounds is not None else None
    first = -1 if kind.corpus else 0
    while first is not None:
        first, spent = _in_a_process(kind, seed, first, todo, left, counted)
        left = None if left is None else left - spent
    return counted


def _in_a_process(
    kind: Kind, seed: int, first: int, todo: list[int] | None, left: float | None, counted: Count
) -> tuple[int | None, float]:
    """Tries from a number on; returns the number to go on with where the process was lost, else None; and seconds."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=_child, args=(theirs, kind.name, seed, first, todo, left))
    process.start()
    theirs.close()
    number, wait = first, kind.seconds + _SLACK
    began = time.monotonic()
    try:
        while ours.poll(wait):
            message = ours.recv()
            if message is None:
                return None, 0
            if len(message) == 1:
                number, wait = message[0], kind.seconds
                continue
            counted.add(*message)
            wait = kind.seconds + _SLACK
        counted.add(number, OTHER, f"took longer than {wait:g} seconds")
    except EOFError:
        process.join()
        counted.add(number, OTHER, f"its process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()
    following = _next(kind, number)
    spent = time.monotonic() - began
    ended = (left is not None and spent > left) or (todo is not None and following not in todo)
    return None if ended else following, spent


def _next(kind: Kind, number: int) -> int:
    if number >= 0:
        return number + 1
    return number - 1 if -number < len(kind.corpus) else 0


def _child(pipe: Connection, name: str, seed: int, first: int, todo: list[int] | None, left: float | None) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    kind = kinds()[name]
    if kind.setting_up is not None:
        kind.setting_up()
    number, until = first, None if left is None else time.monotonic() + left
    while (todo is None or number in todo) and (number < 0 or until is None or time.monotonic() < until):
        pipe.send((number,))
        outcome, said = attempt(kind, number, seed)
        pipe.send((number, outcome, said))
        number = _next(kind, number)
    pipe.send(None)
