"""Everything a report says of a model's cost, measured once."""

from __future__ import annotations

from dataclasses import dataclass

from sapool.compiler import unmodified
from sapool.cost.flops import Cost, costs, total
from sapool.cost.memory import Assumptions, Memory, activation_memory
from sapool.model import CompiledModel


@dataclass(frozen=True)
class Assessment:
    """A model's cost for one image of its plan's size, and that of its unmodified backbone.

    Attributes:
        parts: parameters and MACs of each part, in order of execution; `whole` is their sum.
        plain: the unmodified backbone's, with its own classifier.
        memory, plain_memory: activations of both, under the same assumptions.
    """

    parts: tuple[Cost, ...]
    whole: Cost
    plain: Cost
    memory: Memory
    plain_memory: Memory


def assess(model: CompiledModel, assumptions: Assumptions | None = None) -> Assessment:
    """Measures a model and its unmodified backbone."""
    plan, parts = model.plan, costs(model, model.plan)
    backbone = unmodified(model)
    return Assessment(
        parts=tuple(parts),
        whole=total(parts),
        plain=total(costs(backbone, plan)),
        memory=activation_memory(model, plan, assumptions),
        plain_memory=activation_memory(backbone, plan, assumptions),
    )
