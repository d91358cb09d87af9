"""What a model costs: parameters and multiply-accumulates (MACs), by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from sapool.analysis.dataflow import module_path
from sapool.analysis.shapes import on_meta
from sapool.ir.plan import Plan


@dataclass(frozen=True)
class Cost:
    """One part's cost for one image.

    Attributes:
        part: `stem`, `stage1`, ..., `head`, `classifier`, or a pool's path, `pools.stage2`.
        parameters: numbers to learn.
        macs: multiply-accumulates of convolutions, linear layers and matrix products, attention's two included.
            One MAC is two FLOPs; elementwise work isn't counted.
    """

    part: str
    parameters: int
    macs: int


def total(parts: list[Cost]) -> Cost:
    """The sum of the parts."""
    return Cost("total", sum(part.parameters for part in parts), sum(part.macs for part in parts))


def costs(module: fx.GraphModule, plan: Plan) -> list[Cost]:
    """The costs of a network's parts for one square image of its plan's size, in order of execution."""
    counter = _Counter(on_meta(module))
    with torch.no_grad():
        counter.count(torch.empty(1, 3, plan.image_size, plan.image_size, device="meta"))
    order: dict[str, list[int]] = {}
    parts = parts_of(module, plan)
    seen: set[str] = set()
    for node in module.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        entry = order.setdefault(parts[node.name], [0, 0])
        entry[1] += counter.macs.get(node.name, 0)
        if node.op == "call_module" and str(node.target) not in seen:
            seen.add(str(node.target))
            entry[0] += _parameters(module.get_submodule(str(node.target)))
    return [Cost(part, *numbers) for part, numbers in order.items()]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def parts_of(module: fx.GraphModule, plan: Plan) -> dict[str, str]:
    """The part that each node of a graph belongs to, by the node's name."""
    owners = {prefix: name for name, prefixes in plan.parts for prefix in prefixes}
    found = {node: _owner(node, owners) for node in module.graph.nodes}
    known = [node for node, part in found.items() if part]
    parts, current = {}, "stem"
    for node in module.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith("pools."):
            parts[node.name] = str(node.target)
            continue
        # What stands between stages goes with the one before it; the classifier begins behind the last.
        current = found[node] or current
        parts[node.name] = current
        if known and node is known[-1]:
            current = "classifier"
    return parts


def _owner(node: fx.Node, owners: dict[str, str]) -> str | None:
    if node.name in owners:
        return owners[node.name]
    path = module_path(node)
    while path and path not in owners:
        path = path.rpartition(".")[0]
    return owners.get(path)


class _Counter(fx.Interpreter):
    """Runs a graph on the meta device and counts each node's MACs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.flops = FlopCounterMode(display=False)
        self.macs: dict[str, int] = {}

    def count(self, x: torch.Tensor) -> None:
        with self.flops:
            self.run(x)

    def run_node(self, n: fx.Node) -> Any:
        before = self.flops.get_total_flops()
        value = super().run_node(n)
        self.macs[n.name] = (self.flops.get_total_flops() - before) // 2
        return value
