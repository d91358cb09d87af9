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
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer
from torchvision import models

import sapool
from benchmarks import floor
from benchmarks.cases import TABLES, Case
from benchmarks.former import former
from benchmarks.plain import plain


def build(name: str, case: Case) -> nn.Module:
    """A subject by name."""
    torch.manual_seed(0)
    if name == "torchvision":
        return models.resnet18()
    if "-" in name:
        return sapool.compile(name, image_size=case.size)
    model = sapool.compile(case.architecture, image_size=case.size)
    return {
        "literal": plain,
        "former": former,
        "compiled": lambda m: m,
        "optimized": sapool.optimize,
        "packed": packed,
    }[name](model)


def packed(model: sapool.CompiledModel) -> nn.Module:
    """`-O` as `sapoolc bench` times it."""
    return sapool.optimize(model, packed=True)


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
    parser.add_argument("--table", choices=TABLES, default="readme", help="the comparisons (default: the README's)")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the comparisons, from 0")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--floor", action="store_true", help="how far self-attentive networks are from their limit")
    parser.add_argument("--no-memory", action="store_true", help="measure times only")
    parser.add_argument("--markdown", action="store_true", help="print a table for the README")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        number, what = int(options.child[0]), options.child[1]
        case = TABLES[options.table][number]
        result = time_ratio(case, options.batch, options.repeats) if what == "time" else peak(case, what, options.batch)
        print(json.dumps(result))
        return
    if options.floor:
        tell_floor(options)
        return
    if options.markdown:
        columns = ["network", "time"] + ["peak memory"] * (not options.no_memory)
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for number in options.only if options.only else range(len(TABLES[options.table])):
        _report(number, options)
    print(f"\nbatch {options.batch}, {options.threads} threads, {platform.machine()}, torch {torch.__version__}")


def tell_floor(options: argparse.Namespace) -> None:
    """Prints each self-attentive network beside the time that it can't go below here."""
    rates = floor.rates()
    print(
        f"{rates.products / 1e9:.0f}e9 multiply-accumulates and {rates.exponentials / 1e9:.2f}e9 exponentials a second"
    )
    for name in floor.NAMES:
        for mode in ("forward", "step"):
            case = Case(name, 128, mode, floor.twin(name))
            further = floor.work(build("compiled", case), build(case.baseline, case))  # type: ignore[arg-type]
            ours, twin = time_ratio(case, options.batch, options.repeats)
            limit = twin + further.seconds(rates, options.batch, mode)
            print(
                f"`{name}`, {mode}: {ours:.3f} s, at least {limit:.3f} ({ours / limit:.2f}); avgp {twin:.3f}",
                flush=True,
            )


def _report(number: int, options: argparse.Namespace) -> None:
    def child(what: str) -> str:
        flags = ["--batch", str(options.batch), "--repeats", str(options.repeats), "--threads", str(options.threads)]
        flags += ["--table", options.table]
        command = [sys.executable, "-m", "benchmarks", "--child", str(number), what, *flags]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    case = TABLES[options.table][number]
    ours, base = json.loads(child("time"))
    rows = [("time", ours / base, f"{ours:.3f}/{base:.3f} s", case.most[0])]
    if not options.no_memory:
        mine, other = json.loads(child(case.ours)), json.loads(child(case.baseline))
        rows.append(("memory", mine / other, f"{mine / 1024:.0f}/{other / 1024:.0f} MiB", case.most[1]))
    shown = [f"{ratio:.2f}" + (f" (at most {most:.2f})" if most else "") for _, ratio, _, most in rows]
    if options.markdown:
        print(f"| {case} | {' | '.join(shown)} |", flush=True)
    else:
        words = [f"{what} {ratio} ({of})" for (what, _, of, _), ratio in zip(rows, shown, strict=True)]
        print(f"{case}: {', '.join(words)}", flush=True)


if __name__ == "__main__":
    main()
