"""What became of a backbone: its graph before the passes, after each of them, and what each left alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import fx

from sapool.compiler import baseline, execute
from sapool.inspection.graph import Snapshot
from sapool.inspection.snapshot import snapshot
from sapool.model import CompiledModel

BACKBONE = "backbone"


@dataclass(frozen=True)
class History:
    """The graphs of a network, from its backbone's to its own.

    Attributes:
        snapshots: the backbone's, then one a pass in the order in which they ran; the last is the network's own.
    """

    snapshots: tuple[Snapshot, ...]

    @property
    def before(self) -> Snapshot:
        """The unmodified backbone."""
        return self.snapshots[0]

    @property
    def after(self) -> Snapshot:
        """The network as it is."""
        return self.snapshots[-1]

    @property
    def rules(self) -> tuple[str, ...]:
        """The passes that a node is stamped with, in the order in which they ran."""
        used = {node.rule for taken in self.snapshots for node in taken.nodes if node.rule}
        ran = [taken.title for taken in self.snapshots if taken.title in used]
        return tuple(dict.fromkeys([*ran, *sorted(used)]))


def history(model: CompiledModel) -> History:
    """Carries a model's plan out once more, without data, and writes down the graph after each pass.

    What was done after that, optimization or pruning, is a last step.
    """
    origin, plan = model.origin, model.origin.full or model.origin.plan
    taken = [snapshot(BACKBONE, baseline(plan, origin.own), plan)]

    def watch(name: str, module: fx.GraphModule, changed: bool) -> None:
        # A pass that reports nothing may yet mark what it found, so the graph is what is asked.
        taken.append(snapshot(name, module, plan))

    with torch.device("meta"):
        again = execute(plan, without=origin.without, watch=watch, backbone=origin.own)
    told = [
        replace(
            step,
            rewrites=tuple(record for record in again.rewrites if record.rule == step.title),
            refusals=tuple(record for record in again.refusals if record.rule == step.title),
        )
        for step in taken
    ]
    own = snapshot("", model, model.plan)
    if not own.looks_like(taken[-1]):
        earlier = len(again.rewrites), len(again.refusals)
        title = "optimize" if origin.optimized else "prune" if origin.full is not None else "afterwards"
        own = replace(own, title=title, rewrites=origin.rewrites[earlier[0] :], refusals=origin.refusals[earlier[1] :])
        told.append(own)
    return History(tuple(told))
