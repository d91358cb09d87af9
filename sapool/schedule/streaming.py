"""What scheduling makes of a model's memory, beside what it makes of its unmodified backbone's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from torch import fx

from sapool.cost.assumptions import Assumptions
from sapool.cost.comparison import Comparison
from sapool.schedule.planner import plan
from sapool.schedule.schedule import Schedule


@dataclass(frozen=True)
class Streaming:
    """A model and its baseline in as little memory as possible, and the model in a budget.

    Attributes:
        compared: what both take as they stand, and the graphs that are scheduled.
        budget: bytes that the arena may take, or None.
    """

    compared: Comparison
    budget: int | None = None

    @cached_property
    def lowest(self) -> Schedule:
        """The model's schedule with the lowest peak that was found."""
        return _lowest(self.compared.graph, self.compared.memory.assumptions)

    @cached_property
    def baseline(self) -> Schedule:
        """The same of the unmodified backbone."""
        return _lowest(self.compared.baseline_graph, self.compared.baseline_memory.assumptions)

    @cached_property
    def chosen(self) -> Schedule:
        """The model's schedule with the least streaming that fits the budget; without one, the lowest."""
        if self.budget is None:
            return self.lowest
        return plan(self.compared.graph, self.compared.memory.assumptions, budget=self.budget)

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        data = {**_figures(self.lowest), "unmodified": _figures(self.baseline)}
        if self.budget is not None:
            data["budget"] = {"bytes": self.budget, "fits": self.chosen.arena <= self.budget, **_figures(self.chosen)}
        return data


@lru_cache(16)  # of an unmodified backbone it is asked for with each model
def _lowest(graph: fx.GraphModule, assumptions: Assumptions) -> Schedule:
    return plan(graph, assumptions)


def _figures(schedule: Schedule) -> dict[str, Any]:
    operations = schedule.net.operations
    return {
        "peak": schedule.peak,
        "arena": schedule.arena,
        "arena_bound": schedule.bound,
        "macs": schedule.macs,
        "order": {"peak": schedule.order_peak, "proved": schedule.proved},
        "regions": [
            {
                "bands": region.bands,
                "operations": [operations[number].name for number in schedule.order[region.start : region.stop]],
            }
            for region in schedule.streamed
        ],
    }
