"""How long a network takes in each engine of this machine, side by side: `bench`.

Engines take turns, a round each after the other, so that what else a machine does meets all of them alike; ratios are
of the same round. Each engine's output is compared with PyTorch's before it is timed.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from sapool.cost.assumptions import Assumptions
from sapool.cost.memory import memory
from sapool.errors import InputError, WorkError, did_you_mean, first_line, require_extra
from sapool.inference import optimize
from sapool.model import CompiledModel
from sapool.runs.results import Result, Table

Call = Callable[[], Any]

TURN = 0.05
"""Seconds that one turn of an engine takes at least."""
APART = 1e-3
"""Of the largest value: an engine whose output is further from PyTorch's isn't timed."""


@dataclass(frozen=True)
class Timed:
    """An engine, and what was found of it.

    Attributes:
        engine: its name.
        milliseconds: median over the rounds; None where it couldn't be timed.
        middle: between which the middle half of the rounds lie.
        ratio: median over the rounds of its time against `eager`'s; None where either couldn't be timed.
        memory: bytes of float32 activations at its peak, where they are known: of PyTorch as the cost report works them
            out, of LiteRT the arena that TensorFlow Lite Micro makes for the file.
        error: of its first output against PyTorch's, of the largest value.
        reason: why it couldn't be timed, or "".
    """

    engine: str
    milliseconds: float | None = None
    middle: tuple[float, float] | None = None
    ratio: float | None = None
    memory: int | None = None
    error: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Bench(Result):
    """What `bench` found.

    Attributes:
        architecture: of the network.
        image: what it was given: (N, C, H, W).
        threads: of each engine.
        rounds: turns of each.
        timed: the engines.
    """

    architecture: str
    image: tuple[int, ...]
    threads: int
    rounds: int
    timed: tuple[Timed, ...]

    def report(self) -> tuple[Table | str, ...]:
        rows = tuple((row.engine, *_figures(row), row.reason) for row in self.timed)
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        title = f"{self.architecture}: {'x'.join(map(str, self.image))}, {threads}, medians of {self.rounds} rounds"
        columns = ("engine", "ms", "middle half", "of eager", "activations, bytes", "not timed because")
        spared = ("middle half", "not timed because") if not any(row.reason for row in self.timed) else ("middle half",)
        return (Table(columns, rows, title, spared),)

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    model: CompiledModel,
    *,
    engines: Sequence[str] = (),
    batch: int = 1,
    threads: int | None = None,
    rounds: int = 15,
) -> Bench:
    """Times a model's forward pass in several engines, on the CPU and on random images.

    Args:
        model: with parameters; it stays as it is.
        engines: keys of `ENGINES`; () for all.
        batch: images at a time.
        threads: of each engine; None for what torch takes.
        rounds: how often each is timed.

    Raises:
        InputError: there is no such engine, or a number isn't positive.
    """
    for name, number in (("batch", batch), ("threads", threads), ("rounds", rounds)):
        if number is not None and number < 1:
            raise InputError(f"{name}: expected a whole number from 1 on, not {number}")
    for engine in engines:
        if engine not in ENGINES:
            raise InputError(f"there is no engine '{engine}'{did_you_mean(engine, ENGINES)}; there are {_named()}")
    chosen = [name for name in ENGINES if name in (engines or ENGINES)]
    threads, options = threads or torch.get_num_threads(), model.plan.options
    before = torch.get_num_threads()
    images = torch.randn(batch, options.in_chans, *options.image_size, generator=torch.Generator().manual_seed(0))
    own = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
            ready = {name: _ready(name, own, images, threads, Path(folder)) for name in chosen}
            times = _in_turn({name: call for name, (call, _) in ready.items() if call is not None}, threads, rounds)
    finally:
        torch.set_num_threads(before)
    rows = tuple(_row(row, times.get(name), times.get("eager")) for name, (_, row) in ready.items())
    return Bench(model.plan.architecture, tuple(images.shape), threads, rounds, rows)


def _eager(model: CompiledModel, images: Tensor, threads: int, folder: Path) -> tuple[Call, int | None]:
    return lambda: model(images), _activations(model, len(images))


def _optimized(model: CompiledModel, images: Tensor, threads: int, folder: Path) -> tuple[Call, int | None]:
    tuned = optimize(model, packed=True)
    return lambda: tuned(images), _activations(tuned, len(images))


def _compiled(model: CompiledModel, images: Tensor, threads: int, folder: Path) -> tuple[Call, int | None]:
    torch.compiler.reset()
    tuned = torch.compile(copy.deepcopy(model))
    return lambda: tuned(images), None


def _onnx(model: CompiledModel, images: Tensor, threads: int, folder: Path) -> tuple[Call, int | None]:
    require_extra("onnx", "ONNX Runtime", ("onnx", "onnxscript", "onnxruntime"))
    from sapool.export import write  # noqa: PLC0415 - an extra's
    from sapool.export.onnx import session  # noqa: PLC0415

    path = folder / "x.onnx"
    write(model, path)
    run = session(path, threads)
    return lambda: run(images), None


def _litert(model: CompiledModel, images: Tensor, threads: int, folder: Path) -> tuple[Call, int | None]:
    require_extra("tflite", "LiteRT", ("litert_torch", "ai_edge_litert", "ai_edge_quantizer", "tflite_micro"))
    if len(images) > 1:
        raise InputError("a .tflite takes one image at a time")
    from sapool.export import write  # noqa: PLC0415
    from sapool.export.tflite.runtimes import LiteRT  # noqa: PLC0415

    path = folder / "x.tflite"
    micro = (write(model, path).data or {}).get("tflm")
    run = LiteRT(path, threads)
    return lambda: run(images), micro and int(micro["head"])


ENGINES: dict[str, Callable[[CompiledModel, Tensor, int, Path], tuple[Call, int | None]]] = {
    "eager": _eager,
    "-O": _optimized,
    "torch.compile": _compiled,
    "onnxruntime": _onnx,
    "litert": _litert,
}
"""Every engine by its name: makes ready what one call runs, and the bytes that it is known to hold."""


def _ready(name: str, model: CompiledModel, images: Tensor, threads: int, folder: Path) -> tuple[Call | None, Timed]:
    """One engine's call, run once, and what is known before it is timed; no call where there is a reason."""
    try:
        call, held = ENGINES[name](model, images, threads, folder)
        error = _apart(call(), model(images))
    except (InputError, WorkError) as problem:
        return None, Timed(name, reason=str(problem).replace(f"{folder}/", ""))
    except Exception as problem:  # whatever compilers and runtimes raise
        return None, Timed(name, reason=first_line(problem))
    if not error <= APART:
        return None, Timed(name, error=error, reason=f"its output is {error:.1e} of the largest value from PyTorch's")
    return call, Timed(name, memory=held, error=error)


def _in_turn(calls: dict[str, Call], threads: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call in each round."""
    # Loading it looks for a compiler of CUDA and warns where there is one and no GPU, which is nobody's business here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer  # noqa: PLC0415

    timers = {name: Timer("call()", globals={"call": call}, num_threads=threads) for name, call in calls.items()}
    counts = {name: max(1, round(TURN / timer.timeit(2).mean)) for name, timer in timers.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer.timeit(counts[name]).mean * 1e3)
    return times


def _row(row: Timed, times: list[float] | None, eager: list[float] | None) -> Timed:
    if times is None:
        return row
    ordered = sorted(times)
    quarter = len(ordered) // 4
    ratio = None if eager is None else median(a / b for a, b in zip(times, eager, strict=True))
    middle = (ordered[quarter], ordered[-1 - quarter])
    return Timed(row.engine, median(times), middle, ratio, row.memory, row.error)


def _apart(found: Any, expected: Any) -> float:
    """How far the first of an engine's outputs is from PyTorch's, as a part of the largest value."""
    one, other = (result if isinstance(result, Tensor) else next(iter(result)) for result in (found, expected))
    return float((one - other).abs().max() / other.abs().max())


def _activations(model: CompiledModel, batch: int) -> int:
    return batch * memory(model, assumptions=Assumptions("fp32")).peak


def _figures(row: Timed) -> tuple[str, str, str, str]:
    if row.milliseconds is None or row.middle is None:
        return "", "", "", ""
    middle = f"{row.middle[0]:.2f} to {row.middle[1]:.2f}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"{row.milliseconds:.2f}", middle, ratio, "" if row.memory is None else f"{row.memory:,}"


def _named() -> str:
    return ", ".join(ENGINES)
