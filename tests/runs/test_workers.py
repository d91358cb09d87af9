"""No data worker outlives its parent, whichever way Python starts processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOADING = """
import multiprocessing, sys, time
import torch
from sapool.training.loading import Loader, Seeded

class Numbers(Seeded):
    def __len__(self):
        return 8
    def __getitems__(self, positions):
        return list(positions)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    batches = iter(Loader(Numbers(), None, 2, workers=2))
    print(next(batches), flush=True)
    time.sleep(60)
"""


def living(group: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, own = file.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if own == str(group) and state != "Z":
            found.append(int(file.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told by /proc")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_of_a_killed_process_end(method: str, tmp_path: Path) -> None:
    program = tmp_path / "loading.py"
    program.write_text(LOADING)
    process = subprocess.Popen(
        [sys.executable, str(program), method], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "[0, 1]\n"
        assert len(living(process.pid)) >= 3
        process.kill()
        process.wait()
        until = time.monotonic() + 30
        while living(process.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert living(process.pid) == []
    finally:
        if living(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
