"""`python -m benchmarks`: time and peak memory of ours against a baseline, as ratios; `--markdown` for the README.

Times are taken alternately in one process and compared by their medians; memory is the resident peak above the model
and its input, each subject in a process of its own. Linux only (`/proc`).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer
from torchvision import models

import sapool
from benchmarks.plain import plain


@dataclass(frozen=True)
class Case:
    """One comparison: `ours` against `baseline`, in the mode `forward` or `step`."""

    architecture: str
    size: int
    mode: str
    baseline: str = "literal"
    ours: str = "compiled"

    def __str__(self) -> str:
        ours = "-O " if self.ours == "optimized" else ""
        return f"{ours}`{self.architecture}` {self.size}x{self.size}, {self.mode}, against {self.baseline}"


_CASES = (
    Case("prepool-nlp-4-resnet18-nlp-1222", 128, "forward"),
    Case("prepool-nlp-4-resnet18-nlp-1222", 128, "step"),
    Case("mobilenet_v2-nlp_headfix2-1222121", 128, "forward"),
    Case("mobilenet_v2-nlp_headfix2-1222121", 128, "step"),
    Case("resnet18-nlp-1222", 224, "forward"),
    Case("resnet18-skip-1222", 224, "forward", "torchvision"),
    Case("resnet18-skip-1222", 224, "step", "torchvision"),
    Case("resnet18-nlp_headfix2_nowin_reduced0842-1222", 224, "forward", "resnet18-avgp-1222"),
    Case("resnet18-skip-1222", 224, "forward", "compiled", "optimized"),
    Case("resnet18-nlp_reduced-1222", 224, "forward", "compiled", "optimized"),
)


def build(name: str, case: Case) -> nn.Module:
    """A subject by name."""
    torch.manual_seed(0)
    if name == "torchvision":
        return models.resnet18()
    if "-" in name:
        return sapool.compile(name, image_size=case.size)
    model = sapool.compile(case.architecture, image_size=case.size)
    return {"literal": plain, "compiled": lambda m: m, "optimized": sapool.optimize}[name](model)


def work(model: nn.Module, case: Case, x: Tensor) -> Callable[[], object]:
    """One forward without gradients, or one training step without an optimiser."""
    if case.mode == "forward":
        model.eval()
        return torch.no_grad()(lambda: model(x))
    model.train()
    labels = torch.arange(len(x))

    def step() -> None:
        model.zero_grad()
        F.cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]

    return step


def time_ratio(case: Case, batch: int, repeats: int) -> tuple[float, float]:
    """Median seconds of ours and the baseline, run in turn."""
    x = torch.randn(batch, 3, case.size, case.size)
    ours, baseline = (work(build(name, case), case, x) for name in (case.ours, case.baseline))
    return in_turn(ours, baseline, repeats)


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


def peak(case: Case, name: str, batch: int) -> int:
    """KiB of resident memory above the model and its input."""
    model, x = build(name, case), torch.randn(batch, 3, case.size, case.size)
    return resident(work(model, case, x))


def resident(run: Callable[[], object]) -> int:
    """KiB of resident memory that a call takes at its peak, above what there was before."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    """Runs every comparison, or the one that a child process is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the comparisons, from 0")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--markdown", action="store_true", help="print a table for the README")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        number, what = int(options.child[0]), options.child[1]
        case = _CASES[number]
        result = time_ratio(case, options.batch, options.repeats) if what == "time" else peak(case, what, options.batch)
        print(json.dumps(result))
        return
    if options.markdown:
        print("| network | time | peak memory |\n|---|---|---|")
    for number in options.only if options.only else range(len(_CASES)):
        _report(number, options)
    print(f"\nbatch {options.batch}, {options.threads} threads, {platform.machine()}, torch {torch.__version__}")


def _report(number: int, options: argparse.Namespace) -> None:
    def child(what: str) -> str:
        flags = ["--batch", str(options.batch), "--repeats", str(options.repeats), "--threads", str(options.threads)]
        command = [sys.executable, "-m", "benchmarks", "--child", str(number), what, *flags]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    case = _CASES[number]
    ours, base = json.loads(child("time"))
    ours_peak, base_peak = json.loads(child(case.ours)), json.loads(child(case.baseline))
    times, memory = f"{ours / base:.2f}", f"{ours_peak / base_peak:.2f}"
    if options.markdown:
        print(f"| {case} | {times} | {memory} |", flush=True)
    else:
        print(f"{case}: time {times} ({ours:.3f}/{base:.3f} s), memory {memory} "
              f"({ours_peak / 1024:.0f}/{base_peak / 1024:.0f} MiB)", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
