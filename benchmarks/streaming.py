"""`python -m benchmarks.streaming`: time and resident memory of streamed models against the plain ones, as ratios.

One image, forward without gradients. Times are taken in turn in one process and compared by their medians; memory is
the resident peak above the model and its input, each subject in a process of its own. Linux only (`/proc`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import sapool
from benchmarks.measure import in_turn, resident


@dataclass(frozen=True)
class Case:
    """A network, the height and width of its images, and what its streamed twin is allowed."""

    architecture: str
    size: tuple[int, int]
    features: bool = False
    bands: int | None = None
    """None for as few as halve the arena."""

    def __str__(self) -> str:
        what = "in half the arena" if self.bands is None else f"in {self.bands} bands"
        features = ", feature maps" if self.features else ""
        return f"`{self.architecture}`{features}, {self.size[0]}x{self.size[1]}, {what}"


_CASES = (
    Case("resnet18-skip-1222", (224, 224)),
    Case("mobilenet-skip-1222121", (224, 224)),
    Case("resnet18-skip-1222", (800, 1333), bands=16),
    Case("resnet18-skip-1222", (800, 1333), bands=16, features=True),
    Case("resnet50-skip-1222", (800, 1333), bands=16),
    Case("resnet50-skip-1222", (800, 1333), bands=16, features=True),
)


def build(case: Case, *, streamed: bool) -> nn.Module:
    """A subject, in eval mode."""
    torch.manual_seed(0)
    model = sapool.compile(case.architecture, image_size=case.size, features_only=case.features).eval()
    if not streamed:
        return model
    budget = sapool.memory(model).arena // 2 if case.bands is None else None
    # Without its check, which would run the plain model and leave its memory behind.
    return sapool.stream(model, budget, case.bands, check=False).eval()


def seconds(case: Case, repeats: int) -> tuple[float, float]:
    """Median seconds of the streamed and the plain model, run in turn."""
    ours, plain, x = build(case, streamed=True), build(case, streamed=False), torch.randn(1, 3, *case.size)
    with torch.no_grad():
        return in_turn(lambda: ours(x), lambda: plain(x), repeats)


def peak(case: Case, *, streamed: bool) -> int:
    """KiB of resident memory above the model and its input."""
    model, x = build(case, streamed=streamed), torch.randn(1, 3, *case.size)
    with torch.no_grad():
        return resident(lambda: model(x))


def main() -> None:
    """Runs every comparison, or the one that a child process is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the comparisons, from 0")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        case, what = _CASES[int(options.child[0])], options.child[1]
        print(json.dumps(seconds(case, options.repeats) if what == "time" else peak(case, streamed=what == "streamed")))
        return
    print("| network | time | resident peak |\n|---|---|---|")
    for number in options.only if options.only else range(len(_CASES)):
        (ours, base), mine, plain = (_child(number, what, options) for what in ("time", "streamed", "plain"))
        shown = f"{mine / plain:.2f} ({mine // 1024} / {plain // 1024} MiB)"
        print(f"| {_CASES[number]} | {ours / base:.2f} | {shown} |", flush=True)


def _child(number: int, what: str, options: argparse.Namespace) -> object:
    flags = ["--repeats", str(options.repeats), "--threads", str(options.threads)]
    command = [sys.executable, "-m", "benchmarks.streaming", "--child", str(number), what, *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
