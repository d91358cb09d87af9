"""A file held to the model it was written from: run in its own runtime, before it is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sapool.errors import WorkError
from sapool.export.comparison import ROUNDING, STEP, Compared, compared
from sapool.export.subject import Subject
from sapool.runs.results import Result, Table

FLOAT_ERROR = 1e-5
"""Of the largest value: what a float file may differ from the model by."""
ROUNDINGS = 4
"""Where the model itself is further off than that, for sharp attention magnifies rounding: as many times its own."""
INT8_COSINE = 0.95
"""Of an output's vector over the images: the least that an int8 file is left with."""
INT8_CORRELATION = 0.9
"""Of a pool's weights over the images: the same. Attention can die while the outputs still look well."""
ALIVE = 0.25
"""Of a tensor's deviation: with less it is dead, whatever the images are."""

Runtime = Callable[[Tensor], Sequence[Tensor]]
"""Runs a file: images (N, C, H, W) to float tensors, the outputs first and then the pools' weights if it has them."""


@dataclass(frozen=True)
class Verification(Result):
    """What a file was found to be.

    Attributes:
        path: of the file.
        format: its name.
        runtime: what ran it, with its version.
        bytes: of the file.
        images: how many it was compared on, and `origin` where they are from.
        noise: whether they are no images.
        integer: whether the file computes in integers, so that it is near the model and not equal to it.
        compared: each output, then each pool's weights.
        agreement: the part of the images whose most probable class is the model's; None where there are no logits.
        notes: sentences on what isn't compared, or what its figures mean.
        more: what else the format has to say, as tables and sentences.
        data: the same as plain data.
    """

    path: str
    format: str
    runtime: str
    bytes: int
    images: int
    origin: str
    noise: bool
    integer: bool
    compared: tuple[Compared, ...]
    agreement: float | None
    notes: tuple[str, ...] = ()
    more: tuple[Table | str, ...] = ()
    data: dict[str, Any] | None = None

    def report(self) -> tuple[Table | str, ...]:
        rows = tuple(
            (c.name, c.what, f"{c.error:.1e}", f"{c.rounding:.1e}", f"{c.cosine:.6f}", _share(c.correlation))
            for c in self.compared
        )
        columns = ("tensor", "", "error", "model's own", "cosine", "correlation")
        title = f"{self.path}: {self.bytes:,} bytes, compared with the model in {self.runtime} on {self.origin}"
        most = () if self.agreement is None else (f"top-1 agreement: {self.agreement:.1%} of {self.images} images",)
        return (Table(columns, rows, title), *most, *self.notes, *self.more)

    def as_data(self) -> dict[str, Any]:
        kept = asdict(self)
        return {name: kept[name] for name in kept if name not in ("more", "data")} | (self.data or {})


def verify(
    subject: Subject,
    watched: Runtime,
    plain: Runtime,
    path: Path,
    temporary: Path,
    format: str,
    runtime: str,
    *,
    integer: bool,
    images: int | None = None,
    notes: tuple[str, ...] = (),
) -> Verification:
    """Compares a file with the model that it was written from. One function for every format.

    Args:
        subject: what was written.
        watched: runs the file's twin, which returns the pools' weights too.
        plain: runs the file itself.
        path: what the file will be called, and `temporary` what it is called now.
        format, runtime: their names.
        integer: whether the file computes in integers.
        images: how many of the calibration's images at most; None for all.
        notes: what the format has to say.

    Raises:
        WorkError: the file computes something else; says which tensor, and by how much.
    """
    calibration = subject.calibration
    shown = calibration.images[:images]
    expected, exact = subject.expected(shown), subject.expected(shown.double())
    found, itself = list(watched(shown)), list(plain(shown))
    count = len(subject.outputs)
    names = [*((name, "output") for name in subject.outputs), *((name, "weights") for name in subject.maps)]
    step = STEP if integer else ROUNDING
    results = tuple(
        compared(*name, *tensors, step=step) for name, *tensors in zip(names, expected, exact, found, strict=True)
    )
    # The file itself has its outputs alone, so they are what is compared; its twin only lends it its eyes.
    outputs = tuple(
        compared(*name, *tensors, step=step)
        for name, *tensors in zip(names[:count], expected[:count], exact[:count], itself, strict=True)
    )
    results = (*outputs, *results[count:])
    logits = subject.outputs == ("logits",)
    agreement = float((itself[0].argmax(1) == expected[0].argmax(1)).double().mean()) if logits else None
    for result in results:
        _check(result, path, integer, calibration.noise)
    if calibration.noise and integer:
        notes += ("The ranges were fitted to noise: sizes and times are a real network's, accuracy isn't.",)
    if subject.streamed:
        notes += ("It is streamed, so its pools' weights are never whole, and aren't compared.",)
    return Verification(
        str(path),
        format,
        runtime,
        temporary.stat().st_size,
        len(shown),
        calibration.origin,
        calibration.noise,
        integer,
        results,
        agreement,
        notes,
    )


def _check(result: Compared, path: Path, integer: bool, noise: bool) -> None:
    what = (
        f"{path} isn't written: {result.name}'s {result.what}"
        if result.what != "output"
        else (f"{path} isn't written: its output {result.name}")
    )
    if not result.finite:
        raise WorkError(f"{what} is not a number in places")
    if result.alive is not None and result.alive < ALIVE:
        raise WorkError(f"{what} is dead: it keeps {result.alive:.0%} of the model's deviation over places and images")
    if not integer:
        allowed = max(FLOAT_ERROR, ROUNDINGS * result.rounding)
        if result.error > allowed:
            raise WorkError(
                f"{what} differs from the model's by {result.error:.1e} of its largest value; {allowed:.1e} is allowed"
            )
    elif not noise:
        if result.what == "output" and result.cosine < INT8_COSINE:
            raise WorkError(f"{what} is too far from the model's: cosine {result.cosine:.4f}, below {INT8_COSINE}")
        if result.what == "weights" and result.correlation is not None and result.correlation < INT8_CORRELATION:
            raise WorkError(
                f"{what} correlate too little with the model's: {result.correlation:.4f}, below {INT8_CORRELATION}"
            )


def _share(value: float | None) -> str:
    return "flat" if value is None else f"{value:.6f}"


def batches(run: Callable[[Tensor], Sequence[Tensor]], size: int) -> Runtime:
    """A runtime that is given few images at a time."""

    def runtime(images: Tensor) -> list[Tensor]:
        parts = [run(part) for part in torch.split(images, size)]
        return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]

    return runtime
