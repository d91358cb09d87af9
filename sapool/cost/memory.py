"""Peak activation memory: what a device has to hold while a network runs on one image.

Batch 1, eval mode, batch norms folded, operations in the order of the model's graph. Peak memory is the largest, over
operations, of the sum of live storages (operands, results, everything needed later) plus the operation's own scratch.
Weights, and values that depend on nothing else, are excluded; the network's input and output are included unless asked
otherwise. Views share their storage. An elementwise operation works in place where its operand dies, so activations
cost nothing after a convolution.

This is the definition of MCUNetV2 (Lin et al., NeurIPS 2021) carried to graphs with attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx

from sapool.analysis.shapes import on_meta
from sapool.cost.arena import Buffer, arena_size, lower_bound
from sapool.cost.assumptions import BYTES, Assumptions, assumptions_of
from sapool.cost.lifetimes import Lifetimes, operation_name
from sapool.cost.unroll import unroll
from sapool.errors import InputError
from sapool.ir.plan import Plan
from sapool.model import CompiledModel
from sapool.passes.inference.fold_norms import fold_norms
from sapool.passes.record import Log

__all__ = [
    "Assumptions",
    "Lifetimes",
    "Memory",
    "Step",
    "activation_memory",
    "analyse",
    "for_device",
    "unroll_for_device",
]


@dataclass(frozen=True)
class Step:
    """One operation of the timeline.

    Attributes:
        node: its name in the unrolled graph; `part` is the model's node that it belongs to.
        operation: what it computes.
        live: bytes of all storages that are live while it runs; `scratch` is its own on top.
    """

    node: str
    part: str
    operation: str
    live: int
    scratch: int

    @property
    def total(self) -> int:
        """Bytes held while the operation runs."""
        return self.live + self.scratch


@dataclass(frozen=True)
class Memory:
    """A network's activation memory.

    Attributes:
        steps: the timeline, in order of execution.
        arena: bytes of one buffer that holds every storage at a fixed offset, as an embedded runtime allocates.
        buffers: the storages with their lifetimes and offsets in it.
        assumptions: under which this was computed.
    """

    steps: tuple[Step, ...]
    arena: int
    buffers: tuple[Buffer, ...]
    assumptions: Assumptions

    @property
    def worst(self) -> Step:
        """The operation at the peak."""
        return max(self.steps, key=lambda step: step.total)

    @property
    def peak(self) -> int:
        """Bytes at the peak: no allocation can do with less in this order of execution."""
        return self.worst.total

    @property
    def bound(self) -> int:
        """Bytes that no arena for these storages can do with less than."""
        return lower_bound(self.buffers)


def activation_memory(module: fx.GraphModule, plan: Plan, assumptions: Assumptions | None = None) -> Memory:
    """The activation memory of a model, or of any traced network, for one image of the plan's size."""
    return analyse(unroll_for_device(module, plan), assumptions or Assumptions())


def memory(model: CompiledModel, device: str | None = None, *, assumptions: Assumptions | None = None) -> Memory:
    """The activation memory of a model for one image of its plan's size.

    Args:
        model: a compiled model.
        device: a board's name (`sapoolc list devices`): what its runtime does in place is assumed.
        assumptions: in place of a device; None for int8, streaming attention, input and output counted.

    Raises:
        InputError: there is no such device, or both are given.
    """
    if device is not None and assumptions is not None:
        raise InputError("device and assumptions: give one of them; a device decides what is assumed")
    return activation_memory(model, model.plan, assumptions_of(device) if device is not None else assumptions)


def unroll_for_device(module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """A network unrolled for one image of the plan's size, without data and with its batch norms folded, as a device
    runs it. Everything that is said of a network's cost is counted on it.
    """
    return unroll(for_device(module, plan), *plan.options.image_size)


def for_device(module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """A copy of a network without data and with its batch norms folded, for images of any size."""
    twin: Any = on_meta(module)
    fold_norms(twin, plan, Log())
    return twin  # type: ignore[no-any-return]


def analyse(graph: fx.GraphModule, assumptions: Assumptions, life: Lifetimes | None = None) -> Memory:
    """The timeline of an unrolled graph; `life` if its lifetimes are known already."""
    life = life or Lifetimes(graph, assumptions)
    width = BYTES[assumptions.dtype]
    buffers = [
        Buffer(name, elements * width, *life.span[name])
        for name, elements in life.elements.items()
        if assumptions.io or name not in life.io
    ]
    steps = []
    for place, node in life.operations:
        live = sum(buffer.size for buffer in buffers if buffer.first <= place <= buffer.last)
        scratch = _scratch(node, assumptions) * width
        steps.append(Step(node.name, node.meta["part"], operation_name(node), live, scratch))
    size, placed = arena_size([*buffers, *_scratch_buffers(life, assumptions, width)])
    return Memory(tuple(steps), size, tuple(placed), assumptions)


def _scratch(node: fx.Node, assumptions: Assumptions) -> int:
    """Elements that an operation needs beside operands and results."""
    if operation_name(node) != "scaled_dot_product_attention":
        return 0
    query, key = (source.meta["value"] for source in node.all_input_nodes[:2])
    heads, rows = (prod(query.shape[:-2]), query.shape[-2]) if assumptions.attention == "full" else (1, 1)
    return int(heads * rows * key.shape[-2])


def _scratch_buffers(life: Lifetimes, assumptions: Assumptions, width: int) -> list[Buffer]:
    scratches = [(place, node, _scratch(node, assumptions) * width) for place, node in life.operations]
    return [Buffer(f"{node.name}.scratch", size, place, place) for place, node, size in scratches if size]
