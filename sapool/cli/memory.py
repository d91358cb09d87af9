"""Memory on the command line: what a network takes, held to a budget and a board, and its timelines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import Console

from sapool.analysis.parts import parts_of
from sapool.catalogue.devices import Device
from sapool.cli.console import show_table
from sapool.cli.tables import thousands
from sapool.cost.assumptions import BYTES, Assumptions
from sapool.cost.budget import to_blame
from sapool.cost.comparison import Comparison
from sapool.cost.lifetimes import operation_name
from sapool.cost.memory import Memory
from sapool.cost.micro import MicroMemory, micro_memory
from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.schedule.fitting import ROOM, Verdict, fit, fit_micro
from sapool.schedule.schedule import Schedule
from sapool.schedule.streaming import Streaming


@dataclass(frozen=True)
class MemoryCheck:
    """What a network takes by what runs it, held to a budget and a board.

    Attributes:
        model: the network, and `cost`, what it is by itself.
        assumed: what memory is counted under.
        board: that it is for, or None.
        budget: bytes that there are, or None.
        streamed: whether bands of rows are asked for.
        in_own_bands: whether they are those of a file's format, so that our own schedule isn't what runs.
    """

    model: CompiledModel
    cost: Comparison
    assumed: Assumptions
    board: Device | None
    budget: int | None
    streamed: bool
    in_own_bands: bool

    @cached_property
    def micro(self) -> MicroMemory | None:
        """What TensorFlow Lite Micro takes of a board that it runs on; None where that can't be said.

        Files of its are of int8 or of floats. What can't be one, or isn't asked to be, is counted as for other
        runtimes. It is streamed only if that is asked for, by a budget or at all.
        """
        if self.board is None or self.board.runtime != "tflm" or self.assumed.dtype not in ("int8", "fp32"):
            return None
        integer = self.assumed.dtype == "int8"
        try:
            return micro_memory(self.model, integer=integer, streamed=self.streamed, budget=self.budget)
        except InputError as error:
            print(f"note: {error}", file=sys.stderr)
            return None

    @cached_property
    def parts(self) -> dict[str, str]:
        """The part of the plan that each node belongs to."""
        return parts_of(self.model, self.model.plan)

    @cached_property
    def limit(self) -> int | None:
        """Bytes that our own schedule has to keep within; None where there is no limit, or it isn't what runs."""
        if self.micro is not None:
            return None
        if self.board is not None:
            return self.budget or int(ROOM * self.board.sram)
        return None if self.in_own_bands else self.budget

    @cached_property
    def streaming(self) -> Streaming:
        """Our own schedule."""
        return Streaming(self.cost, self.limit)

    @property
    def scheduled(self) -> Streaming | None:
        """Our own schedule, where bands of rows are asked for and they are its."""
        return self.streaming if self.streamed and not self.in_own_bands else None

    @cached_property
    def verdict(self) -> Verdict | None:
        """Whether the board is enough: as its runtime runs the network where that is known, else by our schedule."""
        if self.board is None:
            return None
        if self.micro is not None:
            return fit_micro(self.micro, self.board.name)
        weights = self.cost.total.parameters * BYTES[self.cost.memory.assumptions.dtype]
        return fit(self.streaming.chosen.memory(), weights, self.board.name, self.parts)

    @cached_property
    def excess(self) -> str | None:
        """By how much the budget is exceeded, and who is to blame; None where it is kept, or a file's writer knows."""
        budget, micro = self.budget, self.micro
        if budget is None:
            return None
        if micro is not None and micro.sram > budget:
            return (
                f"as TensorFlow Lite Micro runs it the network takes {thousands(micro.sram)} bytes, which exceed "
                f"{thousands(budget)}: activations {thousands(micro.head)}, its own about {thousands(micro.tail)}"
            )
        if self.limit is None or self.streaming.chosen.arena <= budget:
            return None
        schedule = self.streaming.chosen
        blamed = ", ".join(
            f"{part} ({thousands(needed)})" for part, needed in to_blame(schedule.memory(), budget, self.parts)
        )
        excess = f"activations of {thousands(schedule.arena)} bytes exceed {thousands(budget)}, {schedule}"
        return f"{excess}: {blamed}" if blamed else excess

    def activations(self, *, integer: bool) -> int | None:
        """The budget of a file's activations: what the board's runtime leaves of it where that is known."""
        of_board = self.budget is not None and self.in_own_bands and integer == (self.assumed.dtype == "int8")
        return self.micro.head if of_board and self.micro is not None else self.budget

    def unmet(self) -> list[str]:
        """What there isn't enough of, a sentence each."""
        said = [self.excess] if self.excess else []
        if self.verdict is not None and self.verdict.word == "too big":
            said.append(f"{self.verdict.device.title} is too small")
        return said


def show_timeline(out: Console, memory: Memory) -> None:
    """What is held while each operation runs."""
    most = memory.peak
    rows = [(step.part, step.operation, thousands(step.total), step.total / most) for step in memory.steps]
    _show_bars(out, ("part", "operation", "bytes", "of the peak"), rows, title=f"timeline ({memory.assumptions})")


def show_schedule(out: Console, schedule: Schedule) -> None:
    """What is held while each operation runs, at most, where it runs by rows."""
    operations = schedule.net.operations
    worst: dict[int, tuple[int, int]] = {}
    for move in schedule.moves[1:]:
        count, total = worst.get(move.operation, (0, 0))
        worst[move.operation] = count + 1, max(total, move.total)
    rows = [
        (
            operations[number].part,
            operation_name(operations[number].nodes[0]),
            thousands(worst[number][0]),
            thousands(worst[number][1]),
            worst[number][1] / schedule.peak,
        )
        for number in schedule.order
        if number in worst
    ]
    title = f"timeline ({schedule.assumptions}; {schedule})"
    _show_bars(out, ("part", "operation", "times", "bytes at most", "of the peak"), rows, title=title)


def _show_bars(out: Console, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], *, title: str) -> None:
    """A table whose last column is a part of the whole, drawn as long as there is room."""
    widths = [max(map(len, cells)) for cells in zip(columns[:-1], *(row[:-1] for row in rows), strict=True)]
    longest = min(_LONGEST, max(_SHORTEST, out.width - sum(widths) - 2 * len(widths)))
    drawn = [(*row[:-1], "#" * round(longest * row[-1])) for row in rows]
    show_table(out, columns, drawn, title=title)


_LONGEST, _SHORTEST = 40, 10
