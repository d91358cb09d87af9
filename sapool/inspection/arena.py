"""A network's activation memory as rectangles: which buffer lies where from when to when, and which nodes use it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import replace

from torch import fx

from sapool.cost.lifetimes import Lifetimes
from sapool.cost.memory import Memory
from sapool.inspection.owners import Arena, Placed
from sapool.schedule.schedule import Schedule


def plain_arena(graph: fx.GraphModule, memory: Memory, image: str = "input") -> Arena:
    """The arena of a network that computes one operation after the other.

    Args:
        graph: the unrolled graph that the memory was counted on.
        memory: its memory.
        image: the name of the model's node that is its input.
    """
    life = Lifetimes(graph, memory.assumptions)
    places = [place for place, _ in life.operations]
    writers: dict[str, dict[str, None]] = {}
    readers: dict[str, dict[str, None]] = {}
    for node in graph.graph.nodes:
        if node.name in life.storage:
            writers.setdefault(life.storage[node.name], {})[str(node.meta["part"])] = None
        for source in node.all_input_nodes:
            if source.name in life.storage and "part" in node.meta:
                readers.setdefault(life.storage[source.name], {})[str(node.meta["part"])] = None
    parts = {f"{node.name}.scratch": str(node.meta["part"]) for _, node in life.operations}
    buffers = tuple(
        Placed(
            buffer.name,
            buffer.size,
            buffer.offset or 0,
            min(bisect_left(places, buffer.first), len(places) - 1),
            max(bisect_right(places, buffer.last) - 1, 0),
            (parts[buffer.name],) if buffer.name in parts else tuple(writers.get(buffer.name, ())),
            tuple(readers.get(buffer.name, ())),
        )
        for buffer in memory.buffers
    )
    buffers = _named(buffers, image)
    return Arena("plain", memory.arena, memory.peak, memory.steps, buffers, memory.assumptions)


def streamed_arena(schedule: Schedule, image: str = "input") -> Arena:
    """The arena of a network that computes maps in bands of rows, as a schedule has it.

    Args:
        schedule: when what is computed.
        image: the name of the model's node that is its input.
    """
    operations = schedule.net.operations
    parts = [tuple(dict.fromkeys(_parts(operation.nodes, operation.part))) for operation in operations]
    read_by: dict[int, dict[str, None]] = {}
    for operation in operations:
        for source in operation.reads:
            read_by.setdefault(source, {})[operation.part] = None
    lies: dict[str, dict[int, None]] = {}
    for number, rows in enumerate(schedule.where):
        for storage in rows:
            lies.setdefault(str(storage), {})[number] = None
    computed = {f"scratch {at}": move.operation for at, move in enumerate(schedule.moves)}
    buffers = []
    for buffer in schedule.buffers:
        scratch = computed.get(buffer.name)
        found = lies.get(buffer.name, {}) if scratch is None else {scratch: None}
        writers = dict.fromkeys(part for number in found for part in parts[number])
        readers = dict.fromkeys(part for number in found for part in read_by.get(number, ())) if scratch is None else {}
        # The input is there before the first move, which is no step of the timeline.
        first, last = max(buffer.first - 1, 0), max(buffer.last - 1, 0)
        name = operations[next(iter(found))].name if found else buffer.name
        buffers.append(Placed(name, buffer.size, buffer.offset or 0, first, last, tuple(writers), tuple(readers)))
    title = f"streamed: {schedule}"
    placed = _named(buffers, image)
    return Arena(title, schedule.arena, schedule.peak, schedule.timeline, placed, schedule.assumptions)


def _named(buffers: Iterable[Placed], image: str) -> tuple[Placed, ...]:
    """Buffers whose input has the name of the model's own node; unrolled graphs call it `input`."""
    return tuple(
        replace(buffer, writers=tuple(image if name == _INPUT else name for name in buffer.writers))
        if _INPUT in buffer.writers
        else buffer
        for buffer in buffers
    )


_INPUT = "input"


def _parts(nodes: Iterable[fx.Node], first: str) -> Iterable[str]:
    yield first
    for node in nodes:
        yield str(node.meta["part"])
