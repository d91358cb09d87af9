"""What TensorFlow Lite Micro allocates for a file's activations, worked out as its planner does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sapool.cost.arena import ALIGNMENT, Buffer, arena_size, greedy_by_size
from sapool.export.tflite import flatbuffer

PLAN = "OfflineMemoryAllocation"
"""The name of a plan in a file's metadata: version, subgraph, number of tensors, and an offset for each."""
_VERSION, _ANYWHERE = 1, -1


@dataclass(frozen=True)
class Held:
    """What is held while one operation runs: its name, and bytes, each buffer aligned."""

    operation: str
    bytes: int


@dataclass(frozen=True)
class Head:
    """The part of the arena that holds activations.

    Attributes:
        bytes: of it.
        steps: operation by operation.
    """

    bytes: int
    steps: tuple[Held, ...]

    @property
    def worst(self) -> Held:
        return max(self.steps, key=lambda step: step.bytes)


def head_of(model: flatbuffer.Model) -> Head:
    """The head of a file, from its operators alone.

    A tensor lives from the operator that makes it to the last that reads it, the input from the start, outputs to the
    end; kernels' scratch lives for its operator. The largest comes first, each at the lowest place that is free; what
    the file has a plan for lies where that says.
    """
    buffers = _buffers(model)
    offsets = _planned(model)
    placed = [replace(b, offset=offsets.get(b.name)) for b in buffers]
    steps = [
        Held(flatbuffer.code(model, operator), sum(b.size for b in buffers if b.first <= place <= b.last))
        for place, operator in enumerate(model.subgraphs[0].operators, start=1)
    ]
    return Head(greedy_by_size(placed), tuple(steps))


def add_plan(model: flatbuffer.Model) -> bool:
    """Ships a layout of the arena in a file where ours is smaller than the runtime's own; whether it is."""
    buffers = _buffers(model)
    size, placed = arena_size(buffers)
    if size >= greedy_by_size(buffers):
        return False
    offsets = {buffer.name: buffer.offset for buffer in placed}
    count = len(model.subgraphs[0].tensors)
    numbers = [_VERSION, 0, count, *(offsets.get(str(index), _ANYWHERE) for index in range(count))]
    flatbuffer.add_metadata(model, [(PLAN, np.array(numbers, np.int32).tobytes())])
    if head_of(model).bytes < greedy_by_size(buffers):
        return True
    model.metadata.pop()  # kernels' scratch, which no plan can name, found no room in it
    return False


def _planned(model: flatbuffer.Model) -> dict[str, int]:
    """Where a file's plan puts its tensors, by their numbers as text."""
    numbers = np.frombuffer(flatbuffer.metadata(model, PLAN) or b"", np.int32).tolist()
    return {str(index): offset for index, offset in enumerate(numbers[3:]) if offset != _ANYWHERE}


def _buffers(model: flatbuffer.Model) -> list[Buffer]:
    """Tensors that aren't constants, in the order of their numbers, and then scratch."""
    graph = model.subgraphs[0]
    spans: dict[int, tuple[int, int]] = {int(i): (0, 0) for i in graph.inputs}
    scratch: list[Buffer] = []
    for place, operator in enumerate(graph.operators, start=1):
        for index in map(int, operator.inputs):
            if index in spans:
                spans[index] = (spans[index][0], place)
        for index in map(int, operator.outputs):
            spans[index] = (place, place)
        for number, size in enumerate(scratch_of(model, operator)):
            scratch.append(Buffer(f"scratch {place}.{number}", _aligned(size), place, place))
    for index in map(int, graph.outputs):
        spans[index] = (spans[index][0], len(graph.operators))
    return [
        Buffer(str(index), _aligned(flatbuffer.size_of(graph.tensors[index])), *spans[index]) for index in sorted(spans)
    ] + scratch


def scratch_of(model: flatbuffer.Model, operator: Any) -> list[int]:
    """Bytes that a kernel asks for beside its operands and its result, by TFLM's own kernels.

    Sums of integers have 32 bits; mirrored padding keeps a number for each axis of both maps. What a batched product
    transposes lies in the tail.
    """
    graph = model.subgraphs[0]
    result = graph.tensors[int(operator.outputs[0])]
    if flatbuffer.code(model, operator) == "MIRROR_PAD":
        return [4 * len(flatbuffer.shape_of(result))] * 2
    if flatbuffer.code(model, operator) in ("MEAN", "SUM") and flatbuffer.type_of(result) in ("INT8", "INT16"):
        return [4 * flatbuffer.size_of(result) // (2 if flatbuffer.type_of(result) == "INT16" else 1)]
    return []


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
