"""Everything that a report shows of one network, measured once."""

from __future__ import annotations

from dataclasses import dataclass

from sapool.cost.assumptions import Assumptions
from sapool.cost.comparison import Comparison, compare
from sapool.inspection.arena import plain_arena, streamed_arena
from sapool.inspection.history import History, history
from sapool.inspection.owners import Arena
from sapool.ir.plan import COLUMNS, table
from sapool.model import CompiledModel
from sapool.schedule.streaming import Streaming


@dataclass(frozen=True)
class Network:
    """A network as a report shows it.

    Attributes:
        architecture: its text.
        backbone: whose it is.
        image: of what size its maps are, `224x224`.
        past: its graphs, from the backbone's to its own.
        arenas: its activation memory, plain and streamed.
        figures: (name, this network's, the unmodified backbone's), numbers of one image.
        parts: (part, parameters, MACs) in order of execution.
        plan: its sites, under `columns`.
    """

    architecture: str
    backbone: str
    image: str
    past: History
    arenas: tuple[Arena, ...]
    figures: tuple[tuple[str, int, int], ...]
    parts: tuple[tuple[str, int, int], ...]
    plan: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...] = COLUMNS


def look_at(model: CompiledModel, assumptions: Assumptions | None = None, *, streamed: bool = True) -> Network:
    """Measures a network, and what became of its backbone.

    Args:
        model: a compiled model; on the meta device is enough.
        assumptions: about the device.
        streamed: whether a schedule by bands of rows is looked for, which may take seconds.
    """
    cost = compare(model, assumptions)
    image = next(node.name for node in model.graph.nodes if node.op == "placeholder")
    arenas, figures = [plain_arena(cost.graph, cost.memory, image)], list(_figures(cost))
    if streamed:
        found = Streaming(cost)
        arenas.append(streamed_arena(found.lowest, image))
        figures.append(("arena, streamed, bytes", found.lowest.arena, found.baseline.arena))
    plan = model.plan
    return Network(
        architecture=plan.architecture,
        backbone=plan.backbone,
        image=plan.options.size_text,
        past=history(model),
        arenas=tuple(arenas),
        figures=tuple(figures),
        parts=tuple((part.part, part.parameters, part.macs) for part in cost.parts),
        plan=tuple(table(plan)),
    )


def _figures(cost: Comparison) -> tuple[tuple[str, int, int], ...]:
    return (
        ("parameters", cost.total.parameters, cost.baseline.parameters),
        ("MACs", cost.total.macs, cost.baseline.macs),
        ("peak activations, bytes", cost.memory.peak, cost.baseline_memory.peak),
        ("arena, bytes", cost.memory.arena, cost.baseline_memory.arena),
    )
