"""`.onnx`: float32, for ONNX Runtime and whatever else reads it. Any number of images at a time."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import onnx
import onnxruntime
import torch
from torch import Tensor

from sapool.catalogue.formats import register_format
from sapool.export.calibration import Calibration, Preparation
from sapool.export.delivery import Backend, deliver
from sapool.export.subject import Subject
from sapool.export.verification import Runtime, Verification
from sapool.model import CompiledModel
from sapool.schedule.streamed import StreamedModel

INPUT = "image"


class OnnxBackend(Backend):
    """Float files by torch's exporter, run by ONNX Runtime."""

    format: ClassVar[str] = "onnx"

    @property
    def runtime(self) -> str:
        return f"ONNX Runtime {onnxruntime.__version__}"

    def write(self, subject: Subject, path: Path, watched: Path) -> None:
        proto = graph_of(subject)
        onnx.save(proto, watched)
        onnx.save(without_weights(proto, subject), path)

    def open(self, path: Path, subject: Subject) -> Runtime:
        return session(path)


@register_format(
    "onnx",
    suffixes=(".onnx",),
    summary="ONNX, float32",
    weights=True,
    runs=True,
    extra="onnx",
    packages=("onnx", "onnxscript", "onnxruntime"),
    rank=10,
)
def write_onnx(
    model: CompiledModel | StreamedModel,
    path: str | Path,
    *,
    calibration: Calibration | None = None,
    preparation: Preparation | None = None,
) -> Verification:
    """Writes a model as ONNX."""
    return deliver(OnnxBackend(), model, path, calibration, preparation)


def graph_of(subject: Subject) -> onnx.ModelProto:
    """The watched network in ONNX: outputs first, then the pools' weights, named as they are."""
    names = [*subject.outputs, *subject.maps]
    program = torch.onnx.export(
        subject.watched,
        (subject.example,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=[INPUT],
        output_names=names,
        verbose=False,
    )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    onnx.helper.set_model_props(proto, subject.metadata)
    return proto


def without_weights(proto: onnx.ModelProto, subject: Subject) -> onnx.ModelProto:
    """The same without the outputs by which pools' weights are watched."""
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    kept = [output for output in plain.graph.output if output.name in subject.outputs]
    del plain.graph.output[:]
    plain.graph.output.extend(kept)
    return plain


def session(path: Path, threads: int = 1) -> Runtime:
    """ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(array) for array in opened.run(None, {INPUT: images.numpy()})]

    return run
