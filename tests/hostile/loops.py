"""Doing the same many times, and at once: memory stays flat, and threads leave each other alone."""

from __future__ import annotations

import gc
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from random import Random
from threading import Event

import torch
from torch.nn import functional as F

import sapool
from tests.hostile import Kind
from tests.test_threads import in_company

COMPILES, STEPS = 10, 50
TEXTS = ("resnet18-nlp_headfix2-1222", "squeezenet1_1-avgp-2221", "alexnet-lip-222")
_SETTLED = 3  # tries after which nothing more should be kept
_NOISE = 24 << 20  # bytes

_held: dict[str, list[int]] = {}


def flat(what: str) -> None:
    """Fails where the process holds more than it did when the loop had settled."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    held = _held.setdefault(what, [])
    held.append(pages * os.sysconf("SC_PAGE_SIZE"))
    if len(held) > _SETTLED:
        grown = held[-1] - max(held[:_SETTLED])
        assert grown < _NOISE, f"{what}: {grown >> 20} MB more after {len(held)} tries than after {_SETTLED}"


def some_text(random: Random, folder: Path) -> str:
    return random.choice(TEXTS)


def compiled_again(text: str, folder: Path) -> None:
    for _ in range(COMPILES):
        with torch.device("meta"):
            sapool.compile(text, image_size=64)
    flat("compiling")


@cache
def trained() -> tuple[sapool.CompiledModel, torch.optim.Optimizer]:
    model = sapool.compile("squeezenet1_1-lip-2221", num_classes=3, image_size=32)
    return model, torch.optim.SGD(model.parameters(), 1e-3)


def trained_on(text: str, folder: Path) -> None:
    model, optimizer = trained()
    for _ in range(STEPS):
        loss = F.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    flat("training")


def together(threads: int, folder: Path) -> None:
    in_company(threads=threads, compiles=2)


def forked(threads: int, folder: Path) -> None:
    """A fork of a process whose threads are compiling compiles too."""
    stop = Event()

    def compile_on() -> None:
        while not stop.is_set():
            with torch.device("meta"):
                sapool.compile(TEXTS[0], image_size=64)

    with ThreadPoolExecutor(threads) as pool:
        others = [pool.submit(compile_on) for _ in range(threads)]
        try:
            sapool.compile(TEXTS[1], image_size=64)
            child = os.fork()
            if not child:
                code = 1
                try:
                    with torch.device("meta"):
                        sapool.compile(TEXTS[2], image_size=64)
                    code = 0
                finally:
                    os._exit(code)
            until = time.monotonic() + 60
            while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
                time.sleep(0.02)
            if done == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            assert done[0], "a fork of a compiling process hangs"
            assert done[1] == 0, f"a fork ended with {done[1]}"
        finally:
            stop.set()
        for other in others:
            other.result()


KINDS = (
    Kind(
        "forks",
        make=lambda random, folder: random.choice((1, 2)),
        judge=forked,
        rounds=2,
        quick=0,
        seconds=300,
        starts=True,
    ),
    Kind(f"loops of {COMPILES} compiles", make=some_text, judge=compiled_again, rounds=10, quick=0, seconds=300),
    Kind(f"loops of {STEPS} training steps", make=some_text, judge=trained_on, rounds=4, quick=0, seconds=300),
    Kind(
        "threads", make=lambda random, folder: random.choice((2, 4, 8)), judge=together, rounds=2, quick=0, seconds=300
    ),
)
