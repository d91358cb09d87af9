"""`.int8.onnx`: ONNX whose layers compute in 8-bit integers, with QuantizeLinear and DequantizeLinear between them.

Weights are per channel, activations per tensor, fitted to the least and the largest value that the calibration's
images give. Attention stays in floats, and so does what makes a pool's weights or its output of it: the softmax's
integers would be 1/256 whatever the number of tokens, and averages over many tokens differ by less than an 8-bit step
of their range, which the batch norm after them magnifies. That is work on the small grid of tokens. A pool whose
weights have no bound (`nlpnosigmoid`) averages in floats too.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from sapool.catalogue.formats import register_format
from sapool.export.calibration import Calibration, Preparation
from sapool.export.delivery import BATCH, deliver
from sapool.export.onnx import INPUT, OnnxBackend, graph_of, without_weights
from sapool.export.subject import Subject
from sapool.export.verification import Verification
from sapool.model import CompiledModel
from sapool.poolings.attention import SelfAttention
from sapool.poolings.base import Pooling
from sapool.poolings.self_attentive import SelfAttentivePool
from sapool.schedule.streamed import StreamedModel

_IN_FLOATS = frozenset({"Softmax"})
_AFTER_TOKENS = (["attention"], ["restore"], ["importance"], ["project"])
"""Parts of a pool that come after its tokens, by their names."""


class Int8OnnxBackend(OnnxBackend):
    """The float file, quantized after training by ONNX Runtime's own tool."""

    format: ClassVar[str] = "onnx_int8"
    integer: ClassVar[bool] = True

    def write(self, subject: Subject, path: Path, watched: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            floats, shaped = Path(folder) / "float.onnx", Path(folder) / "shaped.onnx"
            graph = graph_of(subject)
            onnx.save(graph, floats)
            # Shapes by onnx itself, without symbols: all sides are numbers here but the batch.
            quant_pre_process(floats, shaped, skip_symbolic_shape=True)
            quantize_static(
                shaped,
                watched,
                _Images(subject.calibration.images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry} - _IN_FLOATS),
                nodes_to_exclude=attending(graph, subject),
            )
        proto = onnx.load(watched)
        onnx.helper.set_model_props(proto, subject.metadata)
        onnx.save(proto, watched)
        onnx.save(without_weights(proto, subject), path)


@register_format(
    "onnx_int8",
    suffixes=(".int8.onnx",),
    summary="ONNX, 8-bit integers (QDQ)",
    weights=True,
    runs=True,
    calibrated=True,
    extra="onnx",
    packages=("onnx", "onnxscript", "onnxruntime"),
    rank=11,
)
def write_int8_onnx(
    model: CompiledModel | StreamedModel,
    path: str | Path,
    *,
    calibration: Calibration | None = None,
    preparation: Preparation | None = None,
) -> Verification:
    """Writes a model as ONNX in 8-bit integers."""
    return deliver(Int8OnnxBackend(), model, path, calibration, preparation)


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """The calibration's images, some at a time, as ONNX Runtime's tool asks for them."""

    def __init__(self, images: Tensor) -> None:
        self._parts = iter(torch.split(images, BATCH))

    def get_next(self) -> Mapping[str, Any] | None:
        part = next(self._parts, None)
        return None if part is None else {INPUT: part.numpy()}


def attending(proto: onnx.ModelProto, subject: Subject) -> list[str]:
    """Names of the nodes that compute attention, and weights or outputs of it: those that stay in floats."""
    attentive = {
        name: module
        for name, module in subject.network.named_modules()
        if isinstance(module, Pooling) and any(isinstance(child, SelfAttention) for child in module.modules())
    }
    names = []
    for node in proto.graph.node:
        scope = next((entry.value for entry in node.metadata_props if entry.key == "namespace"), "")
        for name, pool in attentive.items():
            inside = re.findall(rf"\bnetwork\.{re.escape(name)}((?:\.\w+)*): ", scope)  # of each module around it
            if not inside:
                continue
            averages = not inside[-1] and _unbounded(pool)
            if averages or inside[-1].split(".")[1:2] in _AFTER_TOKENS:
                names.append(node.name)
    return names


def _unbounded(pool: Pooling) -> bool:
    return isinstance(pool, SelfAttentivePool) and pool.importance.exp and not pool.importance.sigmoid
