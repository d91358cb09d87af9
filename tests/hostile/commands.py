"""Commands that are told to stop, started twice, or run out of disk: what is left is whole, and told in a sentence."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from sapool.errors import InputError
from tests.hostile import Kind, is_sentence, kills

COMMANDS = ("evaluate", "predict", "heatmap")
TOLD = (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DISK = 5 << 20
_KEPT = (".ckpt", ".pth", ".toml")


@cache
def whole_run(words: Callable[[], tuple[str, ...]]) -> Path:
    """A finished run, and beside it an image."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-run-"))
    kills._whole(("train", *words(), "--run-dir", str(folder / "run")), folder / "said")
    from PIL import Image  # noqa: PLC0415

    Image.new("RGB", (64, 64), (9, 99, 199)).save(folder / "image.png")
    return folder


@cache
def usual(command: str, words: Callable[[], tuple[str, ...]]) -> float:
    """Seconds that a command takes."""
    folder = whole_run(words)
    before = time.monotonic()
    kills._whole(_line(command, folder, folder / "first"), folder / "said")
    return time.monotonic() - before


def _line(command: str, folder: Path, output: Path) -> tuple[str, ...]:
    if command == "evaluate":
        return ("evaluate", str(folder / "run"))
    return (command, str(folder / "run"), str(folder / "image.png"), "-o", str(output))


def some_command(random: Random, folder: Path) -> tuple[str, int, float]:
    part = random.choice((random.random() * 0.05, random.random(), 0.9 + random.random() * 0.15))
    return random.choice(COMMANDS), random.choice(TOLD), part


def _told(words: Callable[[], tuple[str, ...]]) -> Callable[[tuple[str, int, float], Path], None]:
    def judge(given: tuple[str, int, float], folder: Path) -> None:
        command, number, part = given
        run = whole_run(words)
        kept = {
            path: path.read_bytes() for path in (run / "run").iterdir() if path.suffix in (".ckpt", ".pth", ".toml")
        }
        pid = kills._start(_line(command, run, folder / "output"), folder / "said")
        code = kills._ended(pid, part * usual(command, words))
        if code is None:
            os.kill(pid, number)
            code = kills._ended(pid, kills._LONGEST)
        said = (folder / "said").read_text().splitlines()
        early = code == -number and not said  # the command hadn't been read yet
        assert early or code in (0, 128 + number), f"ended with {code}: {said[-3:]}"
        assert len(said) <= 1, said
        kills._gone(pid)
        half = [path.name for place in (run / "run", folder) for path in place.rglob(".*") if path.is_file()]
        assert half == [], half
        assert all(file.read_bytes() == content for file, content in kept.items())
        if code:
            raise InputError(said[0] if said else "ended before it began")

    return judge


def some_edge(random: Random, folder: Path) -> tuple[int, float]:
    """A signal at the first, a middle, or the last moment of a run."""
    part = random.choice((random.random() * 0.03, 0.4 + 0.2 * random.random(), 0.95 + 0.1 * random.random()))
    return random.choice(TOLD), part


def two_at_once(given: float, folder: Path) -> None:
    """One of two that begin in a folder trains; the other is refused in a sentence, and the run is whole."""
    start = ("train", *kills.CLASSIFIER, "--run-dir", str(folder / "run"))
    first = kills._start(start, folder / "said1")
    time.sleep(given)
    second = kills._start(start, folder / "said2")
    codes = [kills._ended(first, kills._LONGEST), kills._ended(second, kills._LONGEST)]
    assert sorted(code if code is not None else -1 for code in codes) == [0, 2], codes
    refused = (folder / ("said1" if codes[0] else "said2")).read_text()
    assert (folder / "run" / "summary.json").is_file()
    assert is_sentence(refused)
    assert refused.count("\n") == 1, refused
    raise InputError(refused.strip())


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 5 MB; where none can be mounted, files of at most 1 MB."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, check=False, capture_output=True).returncode
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        yield disk
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def on_a_small_disk(given: int, folder: Path) -> None:
    """A run that fills the disk ends in a sentence, with nothing half-written; with room it goes on to its end."""
    with small_disk(folder) as disk:
        (disk / "ballast").write_bytes(b"\0" * given)
        start = ("train", *kills.CLASSIFIER, "--run-dir", str(disk / "run"))
        code = kills._ended(kills._start(start, folder / "said"), kills._LONGEST)
        said = (folder / "said").read_text()
        assert code == 1, (code, said[-300:])
        assert is_sentence(said), said
        assert said.count("\n") == 1, said
        assert [path.name for path in (disk / "run").rglob(".*") if path.is_file() and path.name != ".lock"] == []
        shutil.copytree(disk / "run", folder / "run")
    kills._whole(("train", *kills.CLASSIFIER, "--resume", "--run-dir", str(folder / "run")), folder / "said")
    raise InputError(said.strip())


def _import_all() -> None:
    import sapool.classify.evaluate  # noqa: PLC0415
    import sapool.classify.heatmap  # noqa: F401, PLC0415

    kills._import_classifier()


_one: dict[str, Any] = {
    "rounds": 1, "seconds": 4 * kills._LONGEST, "megabytes": 3072, "starts": True, "quick": 0,
    "setting_up": _import_all,
}  # fmt: skip
_seldom = {**_one, "rounds": 0}  # what tests of the engines try too
_detectors = {**_seldom, "setting_up": kills._make_boxes}

KINDS = (
    Kind("signals to commands on a run", some_command, _told(kills._classifier), **{**_one, "rounds": 2}),
    Kind("signals at a run's edges", some_edge, kills._judge(kills._classifier), **_seldom),
    Kind("two at once", lambda random, folder: random.random() * 3, two_at_once, **_one),
    Kind("a disk of 5 MB", lambda random, folder: random.randrange(DISK // 2), on_a_small_disk, **_seldom),
)
if find_spec("mmdet"):
    KINDS += (
        Kind("signals to commands on a detector's run", some_command, _told(kills._detector), **_detectors),
        Kind("signals at the edges of a detector's run", some_edge, kills._judge(kills._detector), **_detectors),
    )
