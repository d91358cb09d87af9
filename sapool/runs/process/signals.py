"""Ctrl-C, SIGTERM and SIGHUP: a command ends at once, and a run with something to lose saves it first.

No exception is thrown into whatever happens to run: libraries swallow those, or say hundreds of lines about them. A
command ends where it is, in a sentence (`ending_at_once`). While a run trains, a signal is only noted, and the engine
looks for it where it can save (`Heeding`); a second one does what the first would have done without a run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

_SAID = {"SIGINT": "interrupted"}
_Handler = Callable[[int, FrameType | None], Any] | int | None

_advice: list[str] = []


class Stopped(BaseException):
    """Thrown by an engine's own code, where it has saved, to leave training."""


class Heeding:
    """What training has been told by signals.

    Attributes:
        wanted: the signal that is to end it, or None.
    """

    def __init__(self) -> None:
        self.wanted: signal.Signals | None = None
        self._armed = False
        self._owner = os.getpid()
        self._before: dict[int, _Handler] = {}

    def arm(self) -> None:
        """From now on there is something to save: the first signal is noted."""
        self._armed = True

    def disarm(self) -> None:
        """Nothing is left to save: a signal does what it did before."""
        self._armed = False

    @contextmanager
    def installed(self) -> Iterator[Heeding]:
        """Meanwhile signals come here. In a thread that isn't the first they can't, and stay as they are."""
        with _handling(self._hear) as self._before:
            yield self

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            _in_a_fork(number)
        elif self._armed and self.wanted is None:
            self.wanted = signal.Signals(number)
        elif callable(before := self._before[number]):
            before(number, frame)
        elif before != signal.SIG_IGN:
            _by_default(number)


@contextmanager
def ending_at_once(*, for_good: bool = False) -> Iterator[None]:
    """Meanwhile a signal ends this process with a sentence and 128 + its number, and what it started with it.

    Args:
        for_good: also afterwards, while the interpreter tidies up.
    """
    owner = os.getpid()
    _advice.clear()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            _in_a_fork(number)
        else:
            _end(number)

    with _handling(end, for_good=for_good):
        yield


def advise(text: str) -> None:
    """What a command that is ended at once says besides, such as how to go on; "" for nothing."""
    _advice[:] = [text] if text else []


@contextmanager
def _handling(
    handler: Callable[[int, FrameType | None], Any], *, for_good: bool = False
) -> Iterator[dict[int, _Handler]]:
    before: dict[int, _Handler] = {}
    if threading.current_thread() is not threading.main_thread():
        yield before
        return
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # not every system has all
        # nohup switches one off, and is to be obeyed.
        if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
            before[number] = signal.getsignal(number)
            signal.signal(number, handler)
    try:
        yield before
    finally:
        for number, old in () if for_good else before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def _in_a_fork(number: int) -> None:
    """A worker. Ctrl-C and the end of a terminal reach it too, and are its parent's to decide about."""
    if number == signal.SIGTERM:
        _by_default(number)


def _by_default(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _end(number: int) -> None:
    name = signal.Signals(number).name
    said = f"sapoolc: {_SAID.get(name, f'stopped by {name}')}{''.join(f'; {text}' for text in _advice)}\n"
    # A progress bar hides the cursor.
    shown = "\x1b[?25h\n" if sys.__stderr__ is not None and sys.__stderr__.isatty() else ""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, (shown + said).encode())
    if writing := sys.modules.get("sapool.weights.atomic"):  # not imported here: signals are heeded before it is
        writing.remove_unfinished()
    for child in _children():
        with suppress(OSError):
            os.kill(child, signal.SIGTERM)
    multiprocessing = sys.modules.get("multiprocessing")
    for worker in multiprocessing.active_children() if multiprocessing else ():
        worker.kill()  # one that doesn't heed, because it is in the middle of an image
    os._exit(128 + number)


def _children() -> list[int]:
    """Processes that this one started, where the system tells."""
    with suppress(OSError, ValueError):
        return [int(child) for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()]
    return []
