"""What people read about memory: timelines, what streaming makes of them, and what doesn't fit."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from sapool.catalogue.devices import Device
from sapool.cli.console import show_table
from sapool.cli.tables import thousands
from sapool.cost.assumptions import BYTES, Assumptions
from sapool.cost.budget import to_blame
from sapool.cost.lifetimes import operation_name
from sapool.cost.memory import Memory
from sapool.cost.micro import MicroMemory, micro_memory, refusal
from sapool.model import CompiledModel
from sapool.schedule.fitting import Verdict, fit, fit_micro
from sapool.schedule.schedule import Schedule
from sapool.schedule.streaming import Streaming


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


def micro_memory_on(
    model: CompiledModel, board: Device, assumed: Assumptions, *, streamed: bool, budget: int | None
) -> MicroMemory | None:
    """What TensorFlow Lite Micro takes of a board that it runs on; None where that can't be said.

    Files of its are of int8 or of floats. What can't be one, or isn't asked to be, is counted as for other runtimes.
    It is streamed only if that is asked for, by a budget or at all.
    """
    if board.runtime != "tflm" or assumed.dtype not in ("int8", "fp32"):
        return None
    if reason := refusal(model.plan):
        print(f"note: {reason}", file=sys.stderr)
        return None
    return micro_memory(model, integer=assumed.dtype == "int8", streamed=streamed or budget is not None, budget=budget)


def verdict_on(board: Device, micro: MicroMemory | None, streaming: Streaming, parts: Mapping[str, str]) -> Verdict:
    """Whether a board is enough: as its runtime runs the network where that is known, else by our own schedule."""
    if micro is not None:
        return fit_micro(micro, board.name)
    cost = streaming.compared
    weights = cost.total.parameters * BYTES[cost.memory.assumptions.dtype]
    return fit(streaming.chosen.memory(), weights, board.name, parts)


def unfit(
    streaming: Streaming,
    budget: int | None,
    verdict: Verdict | None,
    parts: Mapping[str, str],
    micro: MicroMemory | None = None,
) -> int:
    """Says what doesn't fit, and who is to blame; the exit code."""
    said, schedule = [], streaming.chosen
    if budget is not None and micro is not None and micro.sram > budget:
        said.append(
            f"as TensorFlow Lite Micro runs it the network takes {thousands(micro.sram)} bytes, which exceed "
            f"{thousands(budget)}: activations {thousands(micro.head)}, its own about {thousands(micro.tail)}"
        )
    elif budget is not None and schedule.arena > budget:
        blamed = ", ".join(
            f"{part} ({thousands(needed)})" for part, needed in to_blame(schedule.memory(), budget, parts)
        )
        excess = f"activations of {thousands(schedule.arena)} bytes exceed {thousands(budget)}, {schedule}"
        said.append(f"{excess}: {blamed}" if blamed else excess)
    if verdict is not None and verdict.word == "too big":
        said.append(f"{verdict.device.title} is too small")
    for sentence in said:
        print(f"sapoolc: {sentence}", file=sys.stderr)
    return 1 if said else 0
