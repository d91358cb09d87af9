"""An unrolled graph executed as its timeline says, weighing what is held, and inside one arena."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from sapool.cost.lifetimes import Lifetimes
from sapool.cost.memory import Memory


class Execution(fx.Interpreter):
    """Frees at last use, works in place where the timeline says so, and weighs what it holds at each operation."""

    def __init__(self, graph: fx.GraphModule, life: Lifetimes) -> None:
        super().__init__(graph)
        self.life = life
        self.seen: dict[str, int] = {}
        self.storages: dict[str, Tensor] = {}

    def allocate(self, name: str, elements: int, dtype: torch.dtype) -> Tensor:
        """A flat tensor for a storage."""
        return torch.empty(elements, dtype=dtype)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = self.life.storage.get(n.name)
        if name is None:
            return value
        planned = n.meta["value"]
        if name not in self.storages:
            self.storages[name] = self.allocate(name, self.life.elements[name], value.dtype)
        # Laid out as planned: kernels may choose other strides for their results.
        place = self.storages[name].as_strided(planned.shape, planned.stride(), planned.storage_offset())
        if not (value.data_ptr() == place.data_ptr() and value.stride() == place.stride()):
            place.copy_(value.clone())
        alive = {self.life.storage[k.name]: v for k, v in self.env.items() if k.name in self.life.storage}
        alive[name] = place
        self.seen[n.name] = sum(v.untyped_storage().nbytes() // v.element_size() * 4 for v in alive.values())
        return place


class InArena(Execution):
    """The same, with every storage at its offset of a single buffer."""

    def __init__(self, graph: fx.GraphModule, life: Lifetimes, memory: Memory) -> None:
        super().__init__(graph, life)
        self.offsets = {buffer.name: buffer.offset for buffer in memory.buffers}
        self.arena = torch.full((memory.arena // 4,), torch.nan)

    def allocate(self, name: str, elements: int, dtype: torch.dtype) -> Tensor:
        offset = self.offsets[name]
        assert dtype == torch.float32
        assert offset is not None
        return self.arena[offset // 4 : offset // 4 + elements].detach()

    def run_node(self, n: fx.Node) -> Any:
        value = fx.Interpreter.run_node(self, n)
        name = self.life.storage.get(n.name)
        if name is None:
            return value
        planned = n.meta["value"]
        start = (self.offsets[name] or 0) // 4
        place = self.arena.as_strided(planned.shape, planned.stride(), start + planned.storage_offset())
        if not (value.data_ptr() == place.data_ptr() and value.stride() == place.stride()):
            place.copy_(value.clone())
        return place
