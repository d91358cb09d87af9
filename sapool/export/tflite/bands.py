"""A file whose maps are computed in bands of rows: the same operators more often, slices and concatenations. Exact."""

from __future__ import annotations

import tempfile
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema
from torch import Tensor

from sapool.cost.bands.net import EACH, Net, Operator, Value, Window
from sapool.cost.bands.script import SLICE, Script, Step
from sapool.cost.bands.search import in_bands
from sapool.errors import InputError, WorkError
from sapool.export.tflite.additions import add_integers, new_operator
from sapool.export.tflite.flatbuffer import Model, code, drop_unread, shape_of, size_of, type_of, write
from sapool.export.tflite.memory import scratch_of
from sapool.export.tflite.runtimes import LiteRT

_ROUNDING = 1e-5
"""Of the largest value: what kernels for floats may differ by where they are given other sizes."""

_WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D")
_EACH = frozenset((
    "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "LOGISTIC", "RELU", "RELU6", "EXP", "SQRT", "RSQRT", "TANH",
    "QUANTIZE", "DEQUANTIZE", "NEG", "ABS", "SQUARE", "HARD_SWISH",
))  # fmt: skip
"""Kinds of operators whose rows read the same rows."""
_MAPS = ("REVERSE_V2", "PAD", "PADV2", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR")
"""What makes maps besides, of which bands can be read."""


def net_of(model: Model) -> Net:
    """A file's operators; tensors keep their numbers, and constants have no size."""
    graph = model.subgraphs[0]
    variable = {int(i) for i in graph.inputs} | {int(out) for operator in graph.operators for out in operator.outputs}
    rows = {int(i): _rows(model, int(i)) for i in graph.inputs}
    operators = []
    for operator in graph.operators:
        kind, made = code(model, operator), tuple(int(i) for i in operator.outputs)
        window = _window(model, operator, rows)
        if window is not None or kind in (*_WINDOWS, *_MAPS):
            rows[made[0]] = _rows(model, made[0])
        reads = tuple(int(i) for i in operator.inputs if int(i) in variable)
        scratch, channels = tuple(scratch_of(model, operator)), _channels(model, operator)
        operators.append(Operator(kind, kind, reads, made, window, channels, scratch))
    tensors = (
        Value(size_of(tensor), rows.get(number, 0)) if number in variable else Value(0)
        for number, tensor in enumerate(graph.tensors)
    )
    return Net(tuple(tensors), tuple(operators), tuple(map(int, graph.inputs)), tuple(map(int, graph.outputs)))


def lay_in_bands(model: Model, budget: int | None, images: Tensor) -> str:
    """Puts a model's maps in bands of rows, and holds what it computes then to what it computed before.

    Args:
        model: with one image for an input; it is changed.
        budget: bytes that activations may take; None for the smallest arena.
        images: (N, C, H, W) to compare on.

    Returns:
        What is in bands, in words; "" where the budget is met without.

    Raises:
        InputError: there are no bands that take less.
        WorkError: none fit the budget, or the results differ.
    """
    found = in_bands(net_of(model), budget)
    if budget is not None and found.head > budget:
        raise WorkError(
            f"budget: in TensorFlow Lite Micro the activations don't fit {budget:,} bytes; in bands of rows "
            f"they still take {found.head:,}"
        )
    if budget is None and not found.stretches:
        raise InputError(
            f"in bands of rows the network takes no less memory in TensorFlow Lite Micro than as it stands, "
            f"which is {found.head:,} bytes of activations; write it without streaming"
        )
    if not found.stretches:
        return ""
    before = _results(model, images)
    carry_out(model, found.script)
    for expected, result in zip(before, _results(model, images), strict=True):
        allowed = 0 if np.issubdtype(expected.dtype, np.integer) else _ROUNDING * np.abs(expected).max()
        if np.abs(expected.astype(np.float64) - result).max() > allowed:
            raise WorkError("in bands of rows it computes something else")
    return str(found)


def _results(model: Model, images: Tensor) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(write(model))
        return LiteRT(path).raw(images)


def carry_out(model: Model, script: Script) -> None:
    """Gives a model the operators of a script of its `net_of`."""
    graph, writer = model.subgraphs[0], _Writer(model, script)
    graph.operators = [writer.operator(step) for step in script.steps]
    drop_unread(model)  # TensorFlow Lite Micro has room for maps that nothing makes any more


class _Writer:
    def __init__(self, model: Model, script: Script) -> None:
        self.model, self.script, self.graph = model, script, model.subgraphs[0]
        self.given = list(self.graph.operators)
        self.numbers = {number: number for number in range(len(script.net.tensors))}
        self.constants: dict[tuple[int, ...], int] = {}

    def operator(self, step: Step) -> Any:
        """What a step is in the file."""
        made = [self._tensor(value) for value in step.makes]
        reads = [self._tensor(value) for value in step.reads]
        if step.operator is None:
            return self._slice(step, reads, made) if step.kind == SLICE else self._join(reads, made)
        given = self.given[step.operator]
        operator, left = copy(given), iter(reads)
        variable = set(self.script.net.operators[step.operator].reads)
        operator.inputs = [next(left) if int(i) in variable else int(i) for i in given.inputs]
        operator.outputs = made
        window = self.script.net.operators[step.operator].window
        if window not in (None, EACH):  # on a whole map both rules may do, on a band of it one
            operator.builtinOptions = copy(given.builtinOptions)
            operator.builtinOptions.padding = schema.Padding.SAME if window.same else schema.Padding.VALID
        return operator

    def _tensor(self, value: int) -> int:
        """The number of the tensor that a value is."""
        if value not in self.numbers:
            part = self.script.values[value]
            tensor = copy(self.graph.tensors[part.tensor])
            shape = shape_of(tensor)
            tensor.shape, tensor.shapeSignature = [shape[0], part.last - part.first, *shape[2:]], None
            tensor.name = f"band/{len(self.graph.tensors)}".encode()
            self.graph.tensors.append(tensor)
            self.numbers[value] = len(self.graph.tensors) - 1
        return self.numbers[value]

    def _slice(self, step: Step, reads: list[int], made: list[int]) -> Any:
        source, part = self.script.values[step.reads[0]], self.script.values[step.makes[0]]
        begin = self._constant((0, part.first - source.first, 0, 0))
        size = self._constant(shape_of(self.graph.tensors[made[0]]))
        return new_operator(self.model, "SLICE", schema.SliceOptionsT(), [*reads, begin, size], made, version=2)

    def _join(self, reads: list[int], made: list[int]) -> Any:
        options = schema.ConcatenationOptionsT()
        options.axis = 1
        return new_operator(self.model, "CONCATENATION", options, reads, made, version=2)

    def _constant(self, values: tuple[int, ...]) -> int:
        if values not in self.constants:
            self.constants[values] = add_integers(self.model, values, f"band/{len(self.graph.tensors)}")
        return self.constants[values]


def _rows(model: Model, index: int) -> int:
    shape = shape_of(model.subgraphs[0].tensors[index])
    return shape[1] if len(shape) == 4 and shape[0] == 1 else 0


def _window(model: Model, operator: Any, rows: dict[int, int]) -> Window | None:
    """Which rows each row of a map reads; None where that can't be in bands."""
    kind, tensors, options = code(model, operator), model.subgraphs[0].tensors, operator.builtinOptions
    source, result = int(operator.inputs[0]), tensors[int(operator.outputs[0])]
    if kind in _EACH:
        return EACH if all(_follows(model, int(i), shape_of(result), rows) for i in operator.inputs) else None
    if kind not in _WINDOWS or not rows.get(source):
        return None
    if kind.endswith("POOL_2D"):
        kernel, dilation = (options.filterHeight, options.filterWidth), (1, 1)
    else:
        kernel = shape_of(tensors[int(operator.inputs[1])])[1:3]  # type: ignore[assignment]
        dilation = (options.dilationHFactor, options.dilationWFactor)
    strides = (options.strideH, options.strideW)
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    valid = tuple(result.shape[1:3]) == tuple(
        (size - reach) // stride + 1
        for size, reach, stride in zip(shape_of(tensors[source])[1:3], reaches, strides, strict=True)
    )
    same = options.padding == schema.Padding.SAME and not valid
    if kind == "AVERAGE_POOL_2D" and same:
        return None
    return EACH if reaches[0] == strides[0] == 1 else Window(reaches[0], strides[0], same)


def _follows(model: Model, index: int, result: tuple[int, ...], rows: dict[int, int]) -> bool:
    """Whether an operand of an elementwise operator is a map like its result, or the same in each row."""
    shape = shape_of(model.subgraphs[0].tensors[index])
    if len(shape) < 3 or (len(shape) == 4 and shape[1] == 1):
        return True
    return len(shape) == 4 and shape[1] == result[1] and rows.get(index, 0) > 0


def _channels(model: Model, operator: Any) -> int:
    graph = model.subgraphs[0]
    result = graph.tensors[int(operator.outputs[0])]
    if code(model, operator) not in ("CONV_2D", "DEPTHWISE_CONV_2D") or type_of(result) == "FLOAT32":
        return 0
    return shape_of(result)[-1]
