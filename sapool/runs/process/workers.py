"""Data workers end when the process that started them does, however that ends and however they were started."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread


def end_with_parent(number: int = 0) -> None:
    """Has this worker end when its parent is gone; torch's `worker_init_fn`.

    torch's own workers look for another number of their parent process. Where a server forks them (`forkserver`, what
    Python 3.14 does unless it is told otherwise) their parent process is that server, which lives as long as they do:
    nothing ever ended them after a `kill -9`.

    Args:
        number: of the worker.
    """
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent.sentinel,), daemon=True, name="end with parent").start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
