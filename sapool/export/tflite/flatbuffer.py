"""The flatbuffer of a `.tflite`: read, repaired for microcontrollers, and written in one piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import flatbuffers
import numpy as np
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

ALIGNMENT = 16
"""Bytes; where a runtime expects a tensor's data to begin."""

_CODES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_WIDTHS = {"INT8": 1, "UINT8": 1, "BOOL": 1, "INT16": 2, "FLOAT16": 2, "INT32": 4, "FLOAT32": 4, "INT64": 8}

Model = Any
"""`schema.ModelT`: generated, and without types."""


def read(raw: bytes) -> Model:
    """A model, with the data of its weights inside it.

    Converters append large weights behind the flatbuffer, at offsets into the file. TensorFlow Lite Micro doesn't know
    of that, and takes such weights for activations without a word.
    """
    model = schema.ModelT.InitFromPackedBuf(raw, 0)
    for buffer in model.buffers:
        if buffer.offset and buffer.offset > 1:
            buffer.data = np.frombuffer(raw, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


class _Aligned(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that begins vectors of bytes where a tensor may begin."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803 - the library's
        return super().StartVector(elemSize, numElems, ALIGNMENT if elemSize == 1 else alignment)


def write(model: Model) -> bytes:
    """A model as the bytes of a file."""
    builder = _Aligned(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def code(model: Model, operator: Any) -> str:
    """The name of what an operator computes."""
    entry = model.operatorCodes[operator.opcodeIndex]
    return str(_CODES[max(entry.builtinCode, entry.deprecatedBuiltinCode)])


def operations(model: Model) -> list[str]:
    """The kinds of operators that a model has, by name."""
    return sorted({code(model, operator) for operator in model.subgraphs[0].operators})


def readers(model: Model) -> Counter[int]:
    """How often each tensor is read; an output counts as read once."""
    graph = model.subgraphs[0]
    read = Counter(int(i) for operator in graph.operators for i in operator.inputs)
    return read + Counter(map(int, graph.outputs))


def is_constant(model: Model, index: int) -> bool:
    """Whether a tensor is data of the file."""
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    return data is not None and len(data) > 0


def shape_of(tensor: Any) -> tuple[int, ...]:
    """A tensor's shape."""
    return tuple(int(side) for side in tensor.shape) if tensor.shape is not None else ()


def type_of(tensor: Any) -> str:
    """A tensor's type, such as INT8."""
    return str(_TYPES[tensor.type])


def size_of(tensor: Any) -> int:
    """Bytes of a tensor's data."""
    return int(np.prod(shape_of(tensor), dtype=np.int64)) * _WIDTHS[type_of(tensor)]


def values(model: Model, index: int, kind: type = np.int32) -> Any:
    """A constant's numbers."""
    return np.frombuffer(bytes(model.buffers[model.subgraphs[0].tensors[index].buffer].data), kind)


def simplify(model: Model) -> None:
    """Takes out transposes that undo each other, and padding that a window operation does by itself. Exact.

    Converters lay maps out as (N, C, H, W) around an operation that they don't know a layout for, and pad apart in such
    places. Convolutions pad with zeros by the rule SAME; max-poolings leave out of their windows what lies beside the
    map, as padding with −∞ does.
    """
    graph = model.subgraphs[0]
    made = {int(out): operator for operator in graph.operators for out in operator.outputs}
    for operator in graph.operators:
        kind, inputs = code(model, operator), [int(i) for i in operator.inputs]
        for place, index in enumerate(inputs):
            source, _ = _behind(model, made, index, None)
            inputs[place] = index if source is None else source
        filled = {"CONV_2D": 0.0, "DEPTHWISE_CONV_2D": 0.0, "MAX_POOL_2D": -np.inf}.get(kind)
        if filled is not None:
            source, sides = _behind(model, made, inputs[0], filled)
            if source is not None and sides is not None and sides == _same_sides(model, operator, source):
                inputs[0] = source
                operator.builtinOptions.padding = schema.Padding.SAME
        operator.inputs = inputs
    drop_unread(model)


def _behind(
    model: Model, made: dict[int, Any], index: int, filled: float | None
) -> tuple[int | None, list[list[int]] | None]:
    """What a tensor is without transposes around it, and the padding that is left.

    Args:
        model: the model.
        made: which operator makes each tensor.
        index: of the tensor.
        filled: of the padding that may be taken off, once; None for none.

    Returns:
        The tensor behind all that, or None where axes come out in another order; and its padding, an axis each.
    """
    axes, sides, found = list(range(4)), None, None
    while index in made:
        maker = made[index]
        kind, source = code(model, maker), int(maker.inputs[0])
        if kind == "TRANSPOSE":
            order = values(model, int(maker.inputs[1])).tolist()
            if len(order) != 4:
                break
            axes = [order[axis] for axis in axes]
        elif kind in ("PAD", "PADV2") and filled is not None and sides is None:
            value = values(model, int(maker.inputs[2]), np.float32)[0] if kind == "PADV2" else 0.0
            if value != filled and not (filled < 0 and value <= np.finfo(np.float32).min):
                break
            own = values(model, int(maker.inputs[1])).reshape(-1, 2).tolist()
            if len(own) != 4:
                break
            sides = [own[axis] for axis in axes]
        else:
            break
        index = source
        if axes == [0, 1, 2, 3] and (filled is None or sides is not None):
            found = index
    return found, sides


def _same_sides(model: Model, operator: Any, source: int) -> list[list[int]] | None:
    """A window operation's padding by the rule SAME; None where its result would be of another size."""
    graph, options = model.subgraphs[0], operator.builtinOptions
    shape, result = shape_of(graph.tensors[source]), shape_of(graph.tensors[int(operator.outputs[0])])
    if code(model, operator) == "MAX_POOL_2D":
        kernel, dilation = (options.filterHeight, options.filterWidth), (1, 1)
    else:
        kernel = shape_of(graph.tensors[int(operator.inputs[1])])[1:3]  # type: ignore[assignment]
        dilation = (options.dilationHFactor, options.dilationWFactor)
    strides = (options.strideH, options.strideW)
    sides = []
    for axis in range(2):
        size, stride, reach = shape[axis + 1], strides[axis], (kernel[axis] - 1) * dilation[axis] + 1
        if result[axis + 1] != -(-size // stride):
            return None
        sides.append(_same(size, reach, stride))
    return [[0, 0], *sides, [0, 0]]


def _same(size: int, kernel: int, stride: int) -> list[int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return [total // 2, total - total // 2]


def keep_outputs(model: Model, count: int) -> None:
    """Leaves a model its first outputs, and takes out what only the others needed."""
    graph = model.subgraphs[0]
    graph.outputs = list(graph.outputs)[:count]
    for signature in model.signatureDefs or []:
        signature.outputs = [entry for entry in signature.outputs if entry.tensorIndex in set(graph.outputs)]
    drop_unread(model)


def drop_unread(model: Model) -> None:
    """Takes out operators whose results nobody reads, and then tensors and buffers that nothing refers to."""
    graph = model.subgraphs[0]
    while True:
        read_ = {int(i) for operator in graph.operators for i in operator.inputs} | {int(i) for i in graph.outputs}
        kept = [operator for operator in graph.operators if any(int(out) in read_ for out in operator.outputs)]
        if len(kept) == len(graph.operators):
            break
        graph.operators = kept
    used = sorted(
        {int(i) for operator in graph.operators for i in (*operator.inputs, *operator.outputs) if int(i) >= 0}
        | {int(i) for i in (*graph.inputs, *graph.outputs)}
    )
    places = {old: new for new, old in enumerate(used)} | {-1: -1}
    graph.tensors = [graph.tensors[index] for index in used]
    for operator in graph.operators:
        operator.inputs = [places[int(i)] for i in operator.inputs]
        operator.outputs = [places[int(i)] for i in operator.outputs]
    graph.inputs, graph.outputs = [places[int(i)] for i in graph.inputs], [places[int(i)] for i in graph.outputs]
    for signature in model.signatureDefs or []:
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = places[entry.tensorIndex]
    held = {tensor.buffer for tensor in graph.tensors} | {entry.buffer for entry in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in held:
            buffer.data = None  # buffers are found by their places, so an unused one stays, empty


def add_metadata(model: Model, entries: Iterable[tuple[str, bytes]]) -> None:
    """Adds named data to a model; runtimes leave alone what they don't know."""
    model.metadata = [*(model.metadata or [])]
    for name, raw in entries:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(raw, np.uint8)
        entry.name, entry.buffer = name.encode(), len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)


def metadata(model: Model, name: str) -> bytes | None:
    """Named data of a model; None where it has none of that name."""
    found = [entry.buffer for entry in model.metadata or [] if text(entry.name) == name]
    return bytes(model.buffers[found[0]].data) if found else None


def drop_metadata(model: Model, name: str) -> None:
    """Takes named data out of a model."""
    for entry in [entry for entry in model.metadata or [] if text(entry.name) == name]:
        model.buffers[entry.buffer].data = None
        model.metadata.remove(entry)


def text(name: str | bytes) -> str:
    """A name as text, of a model that was read or of one that is written."""
    return name if isinstance(name, str) else name.decode()


def listing(model: Model) -> Iterator[str]:
    """A line an operator, for people."""
    graph = model.subgraphs[0]

    def told(index: int) -> str:
        if index < 0:
            return "-"
        tensor = graph.tensors[index]
        return f"{'=' if is_constant(model, index) else ''}{type_of(tensor)}{list(shape_of(tensor))}"

    for operator in graph.operators:
        inputs, outputs = (" ".join(told(int(i)) for i in side) for side in (operator.inputs, operator.outputs))
        yield f"{code(model, operator)} {inputs} -> {outputs}"


def is_turned(model: Model) -> bool:
    """Whether a model turns its image first."""
    return code(model, model.subgraphs[0].operators[0]) == "REVERSE_V2"
