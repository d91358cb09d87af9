"""Doing the same many times, and at once: memory stays flat, and threads leave each other alone."""

from __future__ import annotations

import gc
import os
from functools import cache
from pathlib import Path
from random import Random

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


KINDS = (
    Kind(f"loops of {COMPILES} compiles", make=some_text, judge=compiled_again, rounds=30, quick=0, seconds=300),
    Kind(f"loops of {STEPS} training steps", make=some_text, judge=trained_on, rounds=10, quick=0, seconds=300),
    Kind(
        "threads", make=lambda random, folder: random.choice((2, 4, 8)), judge=together, rounds=2, quick=0, seconds=300
    ),
)
