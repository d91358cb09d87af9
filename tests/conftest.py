"""Two processes share the tests, module by module; each computes with one thread, lest they fight for cores."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, by child processes too
