"""What TensorFlow Lite Micro allocates for a file's activations, worked out as its planner does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sapool.cost.arena import ALIGNMENT, Buffer, greedy_by_size
from sapool.export.tflite import flatbuffer


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
    end; kernels' scratch lives for its operator. The largest comes first, each at the lowest place that is free.
    """
    graph = model.subgraphs[0]
    spans: dict[int, tuple[int, int]] = {int(i): (0, 0) for i in graph.inputs}
    last = len(graph.operators)
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
        spans[index] = (spans[index][0], last)
    buffers = [
        Buffer(str(index), _aligned(flatbuffer.size_of(graph.tensors[index])), *spans[index]) for index in sorted(spans)
    ] + scratch
    size = greedy_by_size(buffers)
    steps = [
        Held(flatbuffer.code(model, operator), sum(b.size for b in buffers if b.first <= place <= b.last))
        for place, operator in enumerate(graph.operators, start=1)
    ]
    return Head(size, tuple(steps))


def scratch_of(model: flatbuffer.Model, operator: Any) -> list[int]:
    """Bytes that a kernel asks for beside its operands and its result."""
    return []


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
