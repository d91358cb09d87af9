"""What integers are fitted to: the least and the largest value that every tensor of a float model takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from sapool.export.tflite import flatbuffer

NARROWEST = 1e-6
"""The narrowest range: a tensor that is always zero has none, and kernels need one."""
_LARGEST = 3e38
"""Padding that a maximum leaves out is −∞ or near it, and no value."""


def ranges_of(model: flatbuffer.Model, images: Tensor) -> dict[str, dict[str, Any]]:
    """The range of each tensor over all images (N, C, H, W), by its name, as ai-edge-quantizer takes it.

    Its own calibration takes a moving average over images, which cuts off what only some images reach. In a network
    of fifty layers that is most of what integers are off by.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415 - it talks when it is loaded

    interpreter = Interpreter(
        model_content=flatbuffer.write(model),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    graph = model.subgraphs[0]
    found: dict[int, tuple[float, float]] = {int(i): (np.inf, -np.inf) for i in graph.inputs}
    found |= {int(i): (np.inf, -np.inf) for operator in graph.operators for i in operator.outputs}
    found = {i: limits for i, limits in found.items() if flatbuffer.type_of(graph.tensors[i]) == "FLOAT32"}
    for image in images:
        interpreter.set_tensor(given["index"], np.ascontiguousarray(image.permute(1, 2, 0).numpy()[None]))
        interpreter.invoke()
        for index, (least, largest) in found.items():
            value = interpreter.get_tensor(index)
            kept = value[np.abs(value) < _LARGEST]
            if kept.size:
                found[index] = min(least, float(kept.min())), max(largest, float(kept.max()))
    return {flatbuffer.text(graph.tensors[i].name): _range(*limits) for i, limits in found.items()}


def _range(least: float, largest: float) -> dict[str, Any]:
    if least > largest:
        least = largest = 0.0
    shaped = [np.array([value], np.float32) for value in (least, max(largest, least + NARROWEST))]
    return dict(zip(("min", "max"), shaped, strict=True))
