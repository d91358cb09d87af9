"""Processes that train a study's runs on this machine, one a run, so many at a time. No torch here.

Others may do so on other machines, or beside this one: a run whose lease they have is theirs, and is taken over when
they end without having finished it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sapool.runs.progress import EpochTable
from sapool.study.sweep.folder import StudyFolder
from sapool.study.sweep.lease import BUSY

State = Literal["waiting", "running", "elsewhere", "done", "pruned", "failed"]
_PAUSE, _LOOK_AGAIN = 0.1, 2.0
_DEATHS = 3
"""How often a run's process may be ended by the system before the run counts as failed."""


@dataclass
class Standing:
    """How the runs of a study stand.

    Attributes:
        states: of each run, by name.
        epochs: how many each has been trained, where it is under way.
        seconds: since this process began to train.
        trained: how many runs ended here.
        ended: seconds after which the last of them did.
    """

    states: dict[str, State]
    epochs: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    trained: int = 0
    ended: float = 0.0

    def count(self, *states: State) -> int:
        """How many runs stand so."""
        return sum(state in states for state in self.states.values())

    @property
    def remaining(self) -> float | None:
        """Seconds until all is done, as those that ended here say; None before the first."""
        if not self.trained:
            return None
        left = self.ended / self.trained * self.count("waiting", "running")
        return max(left - (self.seconds - self.ended), 0.0)


Watch = Callable[[Standing], None]
"""Is told how the runs stand, several times a second."""


class Supervisor:
    """Trains what is left of a study.

    Args:
        study: it.
        jobs: processes at a time.
        devices: numbers of the GPUs that they share; none where they compute on cores.
        watch: is told meanwhile.
    """

    def __init__(self, study: StudyFolder, jobs: int, devices: Sequence[str] = (), watch: Watch | None = None) -> None:
        self.study, self.jobs, self.devices = study, jobs, devices
        self.watch = watch or (lambda standing: None)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._slots: dict[str, int] = {}
        self._busy: dict[str, float] = {}
        self._deaths: dict[str, tuple[int, int]] = {}
        self._start, self._trained, self._ended, self._looked = time.monotonic(), 0, 0.0, 0.0
        self._epochs: dict[str, int] = {}

    def work(self) -> Standing:
        """Trains until every run is over, here or elsewhere."""
        names = [run.name for run in self.study.wanted]
        try:
            while True:
                self._collect()
                left = [name for name in names if name not in self._running and not self.study.over(name)]
                if not left and not self._running:
                    break
                self._launch(left)
                self._look(names)
                self.watch(self._standing(names))
                time.sleep(_PAUSE)
        finally:
            for process in self._running.values():
                with suppress(OSError):
                    process.terminate()
        standing = self._standing(names)
        self.watch(standing)
        return standing

    def _launch(self, left: Sequence[str]) -> None:
        now = time.monotonic()
        for name in left:
            if len(self._running) >= self.jobs:
                return
            if now - self._busy.get(name, -_LOOK_AGAIN) < _LOOK_AGAIN:
                continue
            if not self.study.lease(name).free:
                self._busy[name] = now
                continue
            self._busy.pop(name, None)
            slot = next(number for number in range(self.jobs) if number not in self._slots.values())
            with self.study.log(name).open("ab") as log:
                self._running[name] = subprocess.Popen(
                    [sys.executable, "-m", "sapool.study.sweep.worker", str(self.study.path), name],
                    stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environment(slot),
                )  # fmt: skip
            self._slots[name] = slot

    def _environment(self, slot: int) -> Mapping[str, str]:
        threads = str(self.study.threads)
        own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if self.devices and self.jobs > 1:
            own["CUDA_VISIBLE_DEVICES"] = self.devices[slot % len(self.devices)]
        return {**os.environ, **own}

    def _collect(self) -> None:
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[name], self._slots[name]
            if process.stdin is not None:
                process.stdin.close()
            if code == BUSY:
                self._busy[name] = time.monotonic()
            elif self.study.over(name):
                self._trained, self._ended = self._trained + 1, time.monotonic() - self._start
            else:
                self._died(name, code)

    def _died(self, name: str, code: int) -> None:
        """A run's process ended without a word. It is tried again, unless it comes no further."""
        if code in (1, 2):
            self.study.fail(name, _last_line(self.study.log(name)) or f"its process ended with exit code {code}")
            return
        reached = len(EpochTable(self.study.folder(name)).rows())
        before, count = self._deaths.get(name, (-1, 0))
        count = count + 1 if reached == before else 1
        self._deaths[name] = reached, count
        if count >= _DEATHS:
            why = f"signal {-code}" if code < 0 else f"exit code {code}"
            self.study.fail(
                name,
                f"its process was ended {count} times by {why} without coming further, most often because memory ran "
                f"out; what it printed is in {self.study.log(name)}",
            )

    def _look(self, names: Sequence[str]) -> None:
        if time.monotonic() - self._looked > 1:
            self._looked = time.monotonic()
            open_runs = [name for name in names if not self.study.over(name)]
            self._epochs = {name: len(EpochTable(self.study.folder(name)).rows()) for name in open_runs}

    def _standing(self, names: Sequence[str]) -> Standing:
        states: dict[str, State] = {}
        for name in names:
            if name in self._running:
                states[name] = "running"
            elif self.study.over(name):
                states[name] = self._outcome(name)
            else:
                states[name] = "elsewhere" if name in self._busy else "waiting"
        return Standing(states, self._epochs, time.monotonic() - self._start, self._trained, self._ended)

    def _outcome(self, name: str) -> State:
        if self.study.failure(name):
            return "failed"
        return "done" if self.study.pruned(name) is None else "pruned"


def _last_line(log: Path) -> str:
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:1000] if lines else ""
    return ""
