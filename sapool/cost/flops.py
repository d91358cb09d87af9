"""What a model costs: parameters and multiply-accumulates (MACs), by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import fx, nn

from sapool.analysis.parts import parts_of
from sapool.cost.unroll import unroll
from sapool.ir.plan import Plan


@dataclass(frozen=True)
class Cost:
    """One part's cost for one image.

    Attributes:
        part: `stem`, `stage1`, ..., `head`, `classifier`, or a pool's path, `pools.stage2`.
        parameters: of its modules.
        macs: multiply-accumulates of convolutions, linear layers and matrix products, attention's two included.
            One MAC is two FLOPs; elementwise work isn't counted.
    """

    part: str
    parameters: int
    macs: int


def total(parts: Iterable[Cost]) -> Cost:
    """The sum of the parts."""
    pairs = [(part.parameters, part.macs) for part in parts]
    return Cost("total", sum(parameters for parameters, _ in pairs), sum(macs for _, macs in pairs))


def costs(module: fx.GraphModule, plan: Plan, unrolled: fx.GraphModule | None = None) -> list[Cost]:
    """The costs of a network's parts for one image of its plan's size, in order of execution.

    Args:
        module: the network.
        plan: says which modules are a part.
        unrolled: the network as it was unrolled for such an image, if it has been.
    """
    unrolled = unrolled or unroll(module, *plan.options.image_size)
    macs: dict[str, int] = {}
    for node in unrolled.graph.nodes:
        if "part" in node.meta:
            macs[node.meta["part"]] = macs.get(node.meta["part"], 0) + node.meta["macs"]
    order: dict[str, list[int]] = {}
    parts = parts_of(module, plan)
    seen: set[str] = set()
    for node in module.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        entry = order.setdefault(parts[node.name], [0, 0])
        entry[1] += macs.get(node.name, 0)
        if node.op == "call_module" and str(node.target) not in seen:
            seen.add(str(node.target))
            entry[0] += _parameters(module.get_submodule(str(node.target)))
    return [Cost(part, *numbers) for part, numbers in order.items()]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
