"""What is put into a file beside what a converter wrote: constants, operators, and a turn of the image."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from sapool.export.tflite.flatbuffer import Model


def add_integers(model: Model, numbers: Sequence[int], name: str) -> int:
    """The number of a new tensor of constant 32-bit integers."""
    tensor, data = schema.TensorT(), schema.BufferT()
    data.data = np.frombuffer(np.array(numbers, np.int32).tobytes(), np.uint8)
    tensor.shape, tensor.type, tensor.buffer = [len(numbers)], schema.TensorType.INT32, len(model.buffers)
    tensor.name = name.encode()
    model.buffers.append(data)
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def new_operator(model: Model, kind: str, options: Any, reads: list[int], made: list[int], version: int) -> Any:
    """An operator that isn't among a model's yet, of a kind and version that need not be in it either."""
    operator, builtin = schema.OperatorT(), getattr(schema.BuiltinOperator, kind)
    known = [(entry.builtinCode, entry.version) for entry in model.operatorCodes]
    if (builtin, version) not in known:
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = builtin
        entry.version = version
        model.operatorCodes.append(entry)
        known.append((builtin, version))
    operator.opcodeIndex = known.index((builtin, version))
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    operator.builtinOptions, operator.inputs, operator.outputs = options, reads, made
    return operator


def turn_image(model: Model) -> None:
    """Puts a turn by 180 degrees in front of a network of one image (1, H, W, C)."""
    graph = model.subgraphs[0]
    source = int(graph.inputs[0])
    turned = copy(graph.tensors[source])
    turned.name, turned.buffer = b"image/turned", 0
    graph.tensors.append(turned)
    made = len(graph.tensors) - 1
    axes = add_integers(model, (1, 2), "image/axes")
    for operator in graph.operators:
        operator.inputs = [made if int(i) == source else int(i) for i in operator.inputs]
    reverse = new_operator(model, "REVERSE_V2", schema.ReverseV2OptionsT(), [source, axes], [made], version=1)
    graph.operators.insert(0, reverse)
