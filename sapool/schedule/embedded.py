"""Carrying out a schedule as a device does: every activation in one arena, at the place that was planned for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from sapool.cost.assumptions import BYTES
from sapool.errors import InputError
from sapool.schedule.execution import Execution, tensors_of
from sapool.schedule.schedule import Schedule


class Embedded(Execution):
    """One run of a schedule for one image inside one tensor, which begins and ends up filled with NaN but for results.

    Rows are written where the schedule's buffers say and read from there, so a plan that lets go of a row too early, or
    lays two on top of each other, computes something else or NaN. It shows that a plan is right; it isn't fast.

    Args:
        schedule: with input and output counted, and activations in fp32.
        graph: that was scheduled, with numbers.

    Attributes:
        seen: for each move, the bytes of the storages that hold something while it is carried out.
    """

    def __init__(self, schedule: Schedule, graph: fx.GraphModule) -> None:
        if not schedule.assumptions.io or schedule.assumptions.dtype != "fp32":
            raise InputError("an arena is only run in if the schedule counts input and output and is of fp32")
        super().__init__(schedule, tensors_of(graph))
        self.arena = torch.full((schedule.arena // BYTES["fp32"],), torch.nan)
        self.places = {int(b.name): (b.offset or 0) for b in schedule.buffers if not b.name.startswith("scratch")}
        self.inside: dict[int, int] = {}  # storages in use: how many rows lie in each
        self.shapes: list[tuple[int, ...]] = [() for _ in self.net.operations]
        self.seen: list[int] = []

    def store(self, number: int, start: int, stop: int, value: Any) -> None:
        operation = self.net.operations[number]
        again = operation.summing and bool(self.shapes[number])
        self.shapes[number] = tuple(value.shape)
        for row in range(start, stop):
            storage = self.schedule.where[number][row]
            if not again:
                self.inside[storage] = self.inside.get(storage, 0) + 1
            self._place(number, storage).copy_(self._row(number, value, row - start).flatten())

    def load(self, number: int, start: int, stop: int) -> Tensor:
        shape = list(self.shapes[number])
        where = self.rows.get(self.net.operations[number].nodes[0])
        if where is None:
            return self._place(number, self.schedule.where[number][0]).clone().reshape(shape)
        shape[where.axis] = where.unit
        rows = [self._place(number, self.schedule.where[number][row]).reshape(shape) for row in range(start, stop)]
        return torch.cat(rows, where.axis)

    def finish(self, at: int) -> None:
        sizes = self.schedule.storages
        self.seen.append(sum(sizes[storage].size for storage, rows in self.inside.items() if rows))
        for number, row in self.schedule.moves[at].freed:
            for gone in range(self._freed[number], row):
                storage = self.schedule.where[number][gone]
                self.inside[storage] -= 1
                if not self.inside[storage]:
                    self._place(number, storage).fill_(torch.nan)
            self._freed[number] = row

    def run(self, x: Tensor) -> Any:
        if x.shape[0] != 1:
            raise InputError(f"an arena holds one image, not {x.shape[0]}")
        self._freed = [0] * len(self.net.operations)
        return super().run(x)

    def _place(self, number: int, storage: int) -> Tensor:
        begin = self.places[storage] // BYTES["fp32"]
        return self.arena[begin : begin + self.net.operations[number].row_size]

    def _row(self, number: int, value: Tensor, row: int) -> Tensor:
        where = self.rows.get(self.net.operations[number].nodes[0])
        return value if where is None else where.band(value, row, row + 1)
