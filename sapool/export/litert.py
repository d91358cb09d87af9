"""`.tflite`, float and int8: for LiteRT and TensorFlow Lite Micro, one image at a time, (1, H, W, C)."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, fx

from sapool.catalogue.formats import register_format
from sapool.cost.micro import refusal
from sapool.errors import InputError, WorkError
from sapool.export.calibration import Calibration, Preparation
from sapool.export.delivery import Backend, deliver
from sapool.export.subject import Bands, Rewriting, Subject, compiled_twin
from sapool.export.tflite import conversion, flatbuffer
from sapool.export.tflite.additions import turn_image
from sapool.export.tflite.bands import lay_in_bands
from sapool.export.tflite.memory import Head, add_plan, head_of
from sapool.export.tflite.runtimes import LiteRT, Recorded, run_micro
from sapool.export.verification import ALIVE, ROUNDINGS, Runtime, Verification
from sapool.ir.plan import Plan
from sapool.model import CompiledModel
from sapool.passes import rewrite_for_microcontroller
from sapool.passes.export.flat import flat_graph
from sapool.passes.record import Log
from sapool.runs.results import Table
from sapool.schedule.streamed import StreamedModel

PACKAGES = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer", "tflite_micro")
STEPS = 16
"""Of an int8 output's 256: two runtimes round apart in every layer, and are much further apart where one is wrong."""
ALIKE = 0.95
"""Or the correlation of the two: a deep network magnifies rounding, and LiteRT's own sets of kernels end further apart
than that (docs/deployment.md)."""
_ON_MICRO = 2


class LiteRTBackend(Backend):
    """Float files by litert-torch."""

    format: ClassVar[str] = "tflite"
    images: ClassVar[int | None] = 32

    @property
    def runtime(self) -> str:
        return f"LiteRT {version('ai-edge-litert')}"

    @property
    def rewrite(self) -> Rewriting:
        integer = self.integer

        def rewriting(module: fx.GraphModule, plan: Plan) -> Log:
            return rewrite_for_microcontroller(module, plan, integer=integer)

        return rewriting

    def check(self, model: CompiledModel | StreamedModel) -> None:
        if reason := refusal(compiled_twin(model).plan):
            raise InputError(reason)

    def write(self, subject: Subject, path: Path, watched: Path) -> None:
        images = subject.calibration.images
        turn = not subject.plan.options.features_only  # maps that someone reads lie as the image does
        flat = flat_graph(subject.watched, images[:1], subject.plan, turn=turn)
        model, turned = conversion.convert(flat, images[:1])
        if self.integer:
            model = conversion.quantize(model, images.flip((2, 3)) if turned else images)
        if turned:
            turn_image(model)
        model.description = f"{subject.metadata['architecture']}, by sapool {subject.metadata['sapool']}"
        watched.write_bytes(flatbuffer.write(model))
        flatbuffer.keep_outputs(model, len(subject.outputs))
        metadata = dict(subject.metadata)
        if subject.bands is not None:
            metadata["streamed"] = lay_in_bands(model, subject.bands.budget, images[:_ON_MICRO])
        flatbuffer.add_metadata(model, [("sapool", json.dumps(metadata).encode())])
        add_plan(model)
        path.write_bytes(flatbuffer.write(model))

    def open(self, path: Path, subject: Subject) -> Runtime:
        runtime, turned = LiteRT(path), flatbuffer.is_turned(flatbuffer.read(path.read_bytes()))

        def run(images: Tensor) -> list[Tensor]:
            return conversion.flipped(runtime(images), turned)

        return run

    def more(self, path: Path, subject: Subject) -> tuple[tuple[Table | str, ...], dict[str, Any]]:
        model = flatbuffer.read(path.read_bytes())
        head, runtime = head_of(model), LiteRT(path)
        images = subject.calibration.images[:_ON_MICRO]
        try:
            micro = run_micro(path, runtime.integers(images), head.bytes)
        except WorkError as error:
            if self.integer:
                raise
            return (str(error),), {"tflm": None}
        apart = self._compare(micro, runtime.raw(images)[0], subject)
        return _told(micro, head, model, apart)

    def _compare(self, micro: Recorded, expected: Any, subject: Subject) -> str:
        """Holds one runtime to the other; says how far they are apart.

        Floats need be no nearer than either may be to the model, in single precision. Fitted to noise, integers need
        only be alive: what a network makes of noise is the rounding in its first layers, magnified.
        """
        found, wanted = micro.results.astype(np.float64), expected.astype(np.float64)
        apart, largest = float(np.abs(found - wanted).max()), float(np.abs(wanted).max())
        if self.integer:
            noise = subject.calibration.noise
            right = apart <= STEPS or (found.std() >= ALIVE * wanted.std() if noise else _alike(found, wanted))
            allowed, unit = float(STEPS), "of 256 steps"
        else:
            images = subject.calibration.images[:_ON_MICRO]
            single, exact = subject.expected(images)[0], subject.expected(images.double())[0]
            allowed = max(1e-4 * largest, 2 * ROUNDINGS * float((single - exact).abs().max()))
            right, unit = apart <= allowed, f"of {largest:.3g}"
        said = f"TensorFlow Lite Micro's output is within {apart:.3g} {unit} of LiteRT's"
        if not right:
            raise WorkError(f"{said}; {allowed:.3g} is allowed")
        return said


class Int8Backend(LiteRTBackend):
    """Int8 files by litert-torch and ai-edge-quantizer."""

    format: ClassVar[str] = "tflite_int8"
    integer: ClassVar[bool] = True


@register_format(
    "tflite",
    suffixes=(".tflite",),
    summary="LiteRT, float32",
    weights=True,
    runs=True,
    lays_bands=True,
    extra="tflite",
    packages=PACKAGES,
    rank=20,
)
def write_tflite(
    model: CompiledModel | StreamedModel,
    path: str | Path,
    *,
    calibration: Calibration | None = None,
    preparation: Preparation | None = None,
    bands: Bands | None = None,
) -> Verification:
    """Writes a model as a float `.tflite`."""
    return deliver(LiteRTBackend(), model, path, calibration, preparation, bands)


@register_format(
    "tflite_int8",
    suffixes=(".int8.tflite",),
    summary="LiteRT and TensorFlow Lite Micro, int8",
    weights=True,
    runs=True,
    lays_bands=True,
    calibrated=True,
    extra="tflite",
    packages=PACKAGES,
    rank=21,
)
def write_int8_tflite(
    model: CompiledModel | StreamedModel,
    path: str | Path,
    *,
    calibration: Calibration | None = None,
    preparation: Preparation | None = None,
    bands: Bands | None = None,
) -> Verification:
    """Writes a model as an int8 `.tflite`."""
    return deliver(Int8Backend(), model, path, calibration, preparation, bands)


def _alike(found: Any, wanted: Any) -> bool:
    return bool(found.std() > 0 and wanted.std() > 0 and np.corrcoef(found.ravel(), wanted.ravel())[0, 1] >= ALIKE)


def _told(micro: Recorded, head: Head, model: Any, apart: str) -> tuple[tuple[Table | str, ...], dict[str, Any]]:
    """What TensorFlow Lite Micro allocated, and where the most is held."""
    worst = sorted(head.steps, key=lambda step: -step.bytes)[:5]
    title = (
        f"TensorFlow Lite Micro's arena: head {micro.head:,} bytes (worked out: {head.bytes:,}), tail {micro.tail:,}"
    )
    rows = tuple((step.operation, f"{step.bytes:,}") for step in worst)
    parts = Table(("held for itself", "bytes"), tuple((n, f"{size:,}") for n, size in micro.parts.items()))
    kinds = f"{len(model.subgraphs[0].operators)} operations of {len(flatbuffer.operations(model))} kinds: "
    data = {
        "head": micro.head,
        "worked_out": head.bytes,
        "tail": micro.tail,
        "parts": micro.parts,
        "operations": flatbuffer.operations(model),
        "steps": [[step.operation, step.bytes] for step in head.steps],
    }
    streamed = json.loads(flatbuffer.metadata(model, "sapool") or b"{}").get("streamed", "")
    told: tuple[Table | str, ...] = (
        *((f"in bands: {streamed}",) if streamed else ()),
        Table(("operation", "bytes held"), rows, title),
        parts,
        kinds + ", ".join(flatbuffer.operations(model)),
        apart,
    )
    return told, {"tflm": data | {"streamed": streamed}}
