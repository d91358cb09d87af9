"""Which modules of a network don't learn in a detector."""

from __future__ import annotations

from sapool.analysis.parts import parts_of
from sapool.errors import InputError
from sapool.model import CompiledModel


def modules_of_stages(model: CompiledModel, frozen_stages: int) -> tuple[str, ...]:
    """Paths of the modules that freezing freezes: -1 none, 0 the stem, k the first k stages and their pools too.

    Raises:
        InputError: the network hasn't so many stages.
    """
    stages = sum(name.startswith("stage") for name, _ in model.plan.features)
    if not -1 <= frozen_stages <= stages:
        raise InputError(
            f"frozen_stages: {model.plan.architecture} has {stages} stages: -1 (none) to {stages} can be frozen, not "
            f"{frozen_stages}"
        )
    if frozen_stages < 0:
        return ()
    names = ["stem", "pools.stem", "pools.prepool"]
    names += [f"{prefix}stage{n}" for n in range(1, frozen_stages + 1) for prefix in ("", "pools.")]
    parts = parts_of(model, model.plan)
    called = (node for node in model.graph.nodes if node.op == "call_module" and parts[node.name] in names)
    return tuple(dict.fromkeys(str(node.target) for node in called))
