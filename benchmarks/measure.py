"""How time and memory are measured: calls taken in turn and their medians, and the resident peak (Linux, `/proc`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer


def work(model: nn.Module, mode: str, x: Tensor) -> Callable[[], object]:
    """One forward without gradients, or one training step without an optimiser."""
    if mode == "forward":
        model.eval()
        return torch.no_grad()(lambda: model(x))
    model.train()
    labels = torch.arange(len(x)) % 10

    def step() -> None:
        model.zero_grad()
        F.cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]

    return step


def in_turn(one: Callable[[], object], other: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of two calls, taken in turn after one of each."""
    times: tuple[list[float], list[float]] = ([], [])
    one()
    other()
    for _ in range(repeats):
        for call, taken in zip((one, other), times, strict=True):
            timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
            taken.append(timer.timeit(1).mean)
    return median(times[0]), median(times[1])


def resident(run: Callable[[], object]) -> int:
    """KiB of resident memory that a call takes at its peak, above what there was before."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])
