"""Small models written by hand, operator by operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

schema = pytest.importorskip("tflite_micro.tensorflow.lite.micro.python.schema_py_generated")


class Net:
    """A float model of one graph; `model` is what was written so far."""

    def __init__(self, *shape: int) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.operatorCodes, self.model.buffers = 3, [], [schema.BufferT()]
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = [], []
        self.graph, self.model.subgraphs = graph, [graph]
        graph.inputs = [self.tensor(shape)]
        graph.outputs = list(graph.inputs)

    def tensor(self, shape: tuple[int, ...], data: Any = None) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.name, tensor.buffer = list(shape), f"t{len(self.graph.tensors)}".encode(), 0
        tensor.type = schema.TensorType.FLOAT32 if data is None or data.dtype == np.float32 else schema.TensorType.INT32
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def call(self, kind: str, shape: tuple[int, ...], *inputs: int, options: Any = None, **fields: Any) -> int:
        """An operator's result; its operands begin with the one before where none is given."""
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.model.operatorCodes.append(code)
        operator.opcodeIndex, out = len(self.model.operatorCodes) - 1, self.tensor(shape)
        operator.inputs, operator.outputs = list(inputs), [out]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in fields.items():
                setattr(operator.builtinOptions, name, value)
        self.graph.operators.append(operator)
        self.graph.outputs = [out]
        return out

    def sign(self) -> None:
        """Names the input and the output, as quantizers want it."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
        signature.inputs[0].name, signature.inputs[0].tensorIndex = b"image", int(self.graph.inputs[0])
        signature.outputs[0].name, signature.outputs[0].tensorIndex = b"result", int(self.graph.outputs[0])
        self.model.signatureDefs = [signature]

    def convolved(self, source: int, shape: tuple[int, ...], kernel: int, stride: int = 1, groups: int = 1) -> int:
        """A convolution with weights of noise, padded by the rule SAME; its result of such a shape."""
        numbers, depth = np.random.default_rng(len(self.graph.tensors)), shape[3]
        inputs = tuple(self.graph.tensors[source].shape)[3]
        sides = (depth, kernel, kernel, inputs) if groups == 1 else (1, kernel, kernel, depth)
        weight = self.tensor(sides, numbers.normal(size=sides).astype(np.float32))
        bias = self.tensor((depth,), numbers.normal(size=depth).astype(np.float32))
        fields: dict[str, Any] = {"padding": schema.Padding.SAME, "strideH": stride, "strideW": stride}
        fields |= {"dilationHFactor": 1, "dilationWFactor": 1}
        if groups > 1:
            fields["depthMultiplier"] = 1
        kind, options = ("CONV_2D", "Conv2DOptions") if groups == 1 else ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions")
        return self.call(kind, shape, source, weight, bias, options=options, **fields)

    def ints(self, *values: Any) -> int:
        data = np.array(values, np.int32)
        return self.tensor(data.shape, data)


def padded_apart() -> Net:
    """A convolution of stride 2 over a map that is laid out otherwise, padded, and laid out back; a pooling."""
    net, weights = Net(1, 8, 8, 2), np.random.default_rng(0)
    first = net.call("TRANSPOSE", (1, 2, 8, 8), 0, net.ints(0, 3, 1, 2), options="TransposeOptions")
    padded = net.call("PAD", (1, 2, 9, 9), first, net.ints([0, 0], [0, 0], [0, 1], [0, 1]), options="PadOptions")
    back = net.call("TRANSPOSE", (1, 9, 9, 2), padded, net.ints(0, 2, 3, 1), options="TransposeOptions")
    kernel = net.tensor((4, 3, 3, 2), weights.normal(size=(4, 3, 3, 2)).astype(np.float32))
    bias = net.tensor((4,), np.zeros(4, np.float32))
    strided: dict[str, Any] = {"padding": schema.Padding.VALID, "strideH": 2, "strideW": 2}
    conv = net.call(
        "CONV_2D", (1, 4, 4, 4), back, kernel, bias,
        options="Conv2DOptions", dilationHFactor=1, dilationWFactor=1, **strided,
    )  # fmt: skip
    least = net.tensor((), np.array(-np.inf, np.float32))
    sides = net.ints([0, 0], [0, 1], [0, 1], [0, 0])
    wide = net.call("PADV2", (1, 5, 5, 4), conv, sides, least, options="PadV2Options")
    net.call("MAX_POOL_2D", (1, 2, 2, 4), wide, options="Pool2DOptions", filterHeight=3, filterWidth=3, **strided)
    return net
