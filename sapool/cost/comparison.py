"""Everything a report says of a model's cost, measured once, beside its unmodified backbone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from torch import fx

from sapool.compiler import baseline
from sapool.cost.assumptions import Assumptions
from sapool.cost.flops import Cost, costs, total
from sapool.cost.memory import Memory, analyse, unroll_for_device
from sapool.ir.plan import Plan
from sapool.model import CompiledModel

Measured = tuple[tuple[Cost, ...], Memory, fx.GraphModule]


@dataclass(frozen=True)
class Comparison:
    """A model's cost for one image of its plan's size, and that of its baseline, the unmodified backbone.

    Attributes:
        parts: parameters and MACs of each part, in order of execution; `total` is their sum.
        baseline: the unmodified backbone's, with its own classifier.
        memory, baseline_memory: activations of both, under the same assumptions.
        graph, baseline_graph: the unrolled graphs on which all this was counted.
    """

    parts: tuple[Cost, ...]
    total: Cost
    baseline: Cost
    memory: Memory
    baseline_memory: Memory
    graph: fx.GraphModule
    baseline_graph: fx.GraphModule

    def figures(self) -> dict[str, int]:
        """What a run keeps of it: of the network, for one image, memory under these assumptions."""
        whole, memory = self.total, self.memory
        return {
            "parameters": whole.parameters,
            "macs": whole.macs,
            "peak_bytes": memory.peak,
            "arena_bytes": memory.arena,
        }


def compare(model: CompiledModel, assumptions: Assumptions | None = None) -> Comparison:
    """Measures a model and its baseline."""
    assumptions, plan = assumptions or Assumptions(), model.plan
    parts, memory, graph = _measured(model, plan, assumptions)
    own = model.origin.own
    if own is None:
        # The same for every model of one backbone, for one kind of image.
        plain = replace(plan, architecture=plan.backbone, dynamic=False, pools="last", sites=())
        base, base_memory, base_graph = _of_named(
            plain.with_options(features_only=False, out_indices=None), assumptions
        )
    else:
        base, base_memory, base_graph = _measured(baseline(plan, own), plan, assumptions)
    return Comparison(parts, total(parts), total(base), memory, base_memory, graph, base_graph)


@lru_cache(32)
def _of_named(plan: Plan, assumptions: Assumptions) -> Measured:
    return _measured(baseline(plan), plan, assumptions)


def _measured(module: fx.GraphModule, plan: Plan, assumptions: Assumptions) -> Measured:
    unrolled = unroll_for_device(module, plan)
    return tuple(costs(module, plan, unrolled)), analyse(unrolled, assumptions), unrolled
