"""Commands for the tests: in this process where that will do, in one of its own where it is to be killed."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

from sapool.cli.main import main

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

# Forked from one that has loaded what takes seconds to load.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["sapool.classify.fit", "sapool.classify.dry_run", "tests.classify.faults"])


def sapoolc(*words: object, code: int = 0, cwd: Path | None = None) -> tuple[str, str]:
    """Standard output and error of a command that must end with `code`, in this process."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        contextlib.chdir(cwd or Path.cwd()),
    ):
        ended = main([str(word) for word in words])
    assert ended == code, f"exit code {ended}\n{out.getvalue()}\n{err.getvalue()}"
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return out.getvalue(), err.getvalue()


def sapoolc_apart(*words: object, fault: str = "none", code: int = 0, wait: int = 280) -> tuple[str, str]:
    """The same in a process of its own with one thread, with a fault of `tests.classify.faults` in it."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        arguments = [str(word) for word in words]
        process = _context.Process(target=_child, args=(fault, arguments, str(out), str(err)))
        process.start()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        process.join(wait)
        if process.exitcode is None:
            process.kill()
        said = out.read_text(), err.read_text()
    assert process.exitcode == code, f"exit code {process.exitcode}\n{said[0]}\n{said[1]}"
    assert "Traceback" not in said[1], said[1]
    return said


def _child(fault: str, arguments: list[str], out: str, err: str) -> None:
    from tests.classify.faults import run  # noqa: PLC0415 - Lightning, in the child alone

    for stream, path in ((1, out), (2, err)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, stream)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(stream), "w", buffering=1) for stream in (1, 2))
    sys.exit(run(fault, arguments))
