"""Runs that are killed, or told to stop, at any moment: what is left goes on, and nothing is left over."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.hostile import Kind

CLASSIFIER = (
    *("digits", "architecture=mobilenet-lip-1221111", "data.image_size=16", "train.batch_size=16"),
    *("train.epochs=2", "train.steps_per_epoch=2", "data.workers=1"),
)
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST = 240  # seconds for what takes a few on a machine that has nothing else to do
_data: list[Path] = []


def some_moment(random: Random, folder: Path) -> tuple[int, float]:
    """A signal, and the part of a whole run after which it is sent."""
    return random.choice(SIGNALS), random.random() ** 2


def _start(words: tuple[str, ...], said: Path) -> int:
    """A fork that runs a command; what it says on standard error goes into a file."""
    said.touch()
    if pid := os.fork():
        return pid
    code = 1
    try:
        import torch  # noqa: PLC0415

        from sapool.cli.main import main  # noqa: PLC0415

        torch.set_num_threads(1)
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 2)
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
        os.setpgid(0, 0)
        code = main(words)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _ended(pid: int, seconds: float) -> int | None:
    """The exit code, below 0 for the signal that ended it; None where it goes on."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.01)


def _whole(words: tuple[str, ...], said: Path) -> None:
    pid = _start(words, said)
    code = _ended(pid, _LONGEST)
    if code is None:
        os.kill(pid, signal.SIGKILL)
    assert code == 0, f"going on ended with {code}: {said.read_text()[-300:]}"


def _judge(words: Callable[[], tuple[str, ...]]) -> Callable[[tuple[int, float], Path], None]:
    usual: list[float] = []

    def judge(given: tuple[int, float], folder: Path) -> None:
        number, part = given
        said, run = folder / "said", folder / "run"
        start = ("train", *words(), "--run-dir", str(run))
        if not usual:
            before = time.monotonic()
            _whole(("train", *words(), "--run-dir", str(folder / "first")), said)
            usual.append(time.monotonic() - before)
        pid = _start(start, said)
        code = _ended(pid, part * usual[0])
        if code is None:
            os.kill(pid, number)
            code = _ended(pid, _LONGEST)
            told = said.read_text().splitlines()
            if number == signal.SIGKILL:
                assert code in (-number, 0)
            else:
                early = code == -number and not told and not run.exists()  # the command hadn't been read yet
                assert early or code in (128 + number, 0), f"ended with {code}: {told[-3:]}"
                assert len(told) <= 1, told
        _gone(pid)
        _whole((*start, "--resume"), said)
        assert (run / "summary.json").is_file()
        assert [path.name for path in run.glob(".*")] == []

    return judge


def _gone(group: int) -> None:
    """Workers end with their parent, at the latest when they look for it."""
    until = time.monotonic() + 60  # five seconds on a machine that has nothing else to do
    while left := _living(group):
        assert time.monotonic() < until, f"a worker is still there: {left}"
        time.sleep(0.1)


def _living(group: int) -> list[str]:
    """The processes of a group, but for those that are dead and that nobody has asked for."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, own = file.read_text().rpartition(")")[2].split()[:3]
            if own == str(group) and state != "Z":
                found.append(f"{file.parent.name} {state}, of {parent}")
    return found


def _import_classifier() -> None:
    import sapool.classify.fit  # noqa: F401, PLC0415


def _make_boxes() -> None:
    import sapool.detect.fit  # noqa: F401, PLC0415

    _make_data()


def _make_data() -> None:
    import tempfile  # noqa: PLC0415

    from sapool.boxes import digits  # noqa: PLC0415

    _data[:] = [Path(tempfile.mkdtemp(prefix="hostile-boxes-")) / "data"]
    digits.make(_data[0], {"train": 8, "val": 2})


def _detector() -> tuple[str, ...]:
    return (
        *("ssd-digits", "data.name=coco_folder", f"data.root={_data[0]}", "data.augment=base", "data.workers=1"),
        *("train.batch_size=4", "train.epochs=2", "train.validate_every=1", "schedule.warmup_steps=0"),
    )


def _import_torchvision() -> None:
    import sapool.detectors.fit  # noqa: F401, PLC0415

    _make_data()


def _classifier() -> tuple[str, ...]:
    return CLASSIFIER


def _torchvision() -> tuple[str, ...]:
    return (
        *("retinanet-torchvision-digits", "data.name=coco_folder", f"data.root={_data[0]}", "data.image_size=64"),
        *("architecture=mobilenet-lip-1222121", "detector.neck_channels=[16]", "data.workers=1"),
        *("train.batch_size=4", "train.epochs=2", "train.validate_every=1", "train.log_every=1"),
    )


_any: dict[str, Any] = {"make": some_moment, "seconds": 4 * _LONGEST, "megabytes": 3072, "starts": True, "quick": 0}

KINDS = (
    Kind("kills", judge=_judge(_classifier), rounds=1, setting_up=_import_classifier, **_any),
    Kind("kills of detectors", judge=_judge(_detector), rounds=1, setting_up=_make_boxes, **_any),
    Kind(
        "kills of torchvision's detectors", judge=_judge(_torchvision), rounds=1, setting_up=_import_torchvision, **_any
    ),
)
