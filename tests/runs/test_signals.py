"""Signals end a command at once and in a sentence, and are noted where there is something to save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sapool.runs.process.signals import Heeding

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM", signal.SIGHUP: "stopped by SIGHUP"}


def program(body: str, **options: object) -> subprocess.Popen[str]:
    """A process that does something and has printed "ready"."""
    head = "import os, signal, sys, time; from sapool.runs.process.signals import Heeding, advise, ending_at_once\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + body],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_from_when_there_is_something_to_save(number):
    seen: list[int] = []
    before = signal.signal(number, lambda number, frame: seen.append(number))
    try:
        heeding = Heeding()
        with heeding.installed():
            os.kill(os.getpid(), number)
            assert (seen, heeding.wanted) == ([number], None)
            heeding.arm()
            os.kill(os.getpid(), number)
            assert (seen, heeding.wanted) == ([number], number)
            os.kill(os.getpid(), number)  # a second one is meant
            assert seen == [number, number]
            heeding.disarm()
            os.kill(os.getpid(), number)
            assert len(seen) == 3
        os.kill(os.getpid(), number)
        assert len(seen) == 4
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_ends_at_once(number, tmp_path):
    body = f"""
from sapool.weights.atomic import replacing
with ending_at_once():
    advise("go on with this")
    try:
        with replacing({str(tmp_path / "file.json")!r}):
            print("ready", flush=True)
            try:
                time.sleep(30)
            except:  # as libraries do
                pass
    finally:
        time.sleep(30)
"""
    process = program(body)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (128 + number, f"sapoolc: {WORDS[number]}; go on with this\n")
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_ends_what_heeds_the_first():
    body = """
heeding = Heeding()
with ending_at_once(), heeding.installed():
    heeding.arm()
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
        if heeding.wanted:
            print("noted", flush=True)
"""
    process = program(body)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "noted\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (143, "sapoolc: stopped by SIGTERM\n")


def test_nohup_is_obeyed():
    body = """
with ending_at_once():
    print("ready", flush=True)
    sys.stdin.readline()
"""
    process = program(body, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    process.communicate("\n", timeout=20)
    assert process.returncode == 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told by /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_go_with_their_parent(number):
    """A Ctrl-C of a terminal reaches the workers too: they leave it to their parent, also one that saves first."""
    body = """
import multiprocessing
def work():
    time.sleep(60)
with ending_at_once():
    workers = [multiprocessing.Process(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    print("ready", flush=True)
    print(*(worker.pid for worker in workers), flush=True)
    time.sleep(60)
"""
    process = program(body, start_new_session=True)
    workers = [int(word) for word in process.stdout.readline().split()]
    if number == signal.SIGINT:
        for worker in workers:
            os.kill(worker, signal.SIGINT)
        time.sleep(0.2)
        assert all(map(alive, workers))
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + number
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


@pytest.mark.parametrize("number", SIGNALS)
def test_the_command_heeds_before_it_has_imported_what_it_needs(number):
    body = """
import importlib.abc
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print("ready", flush=True)
            try:
                time.sleep(30)
            except:
                pass
sys.meta_path.insert(0, Slow())
import sapoolc
sys.argv = ["sapoolc", "compile", "resnet18-nlp-1222"]
sys.exit(sapoolc.main())
"""
    process = program(body)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (128 + number, f"sapoolc: {WORDS[number]}\n")
