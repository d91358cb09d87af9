"""A residual network of a few channels, and plans written by hand for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from sapool.analysis.trace import trace
from sapool.ir.options import Options
from sapool.ir.plan import Plan
from sapool.ir.site import Site
from sapool.ir.survey import Place, Stage, Strides, Survey
from sapool.passes.driver import Driver, Pass
from sapool.passes.record import Log


class Block(nn.Module):
    """Two convolutions and a shortcut, as in a ResNet."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        projects = stride > 1 or out != channels
        self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride)) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.relu(self.conv1(x)))
        y = y + (x if self.downsample is None else self.downsample(x))
        return self.relu(y)


class Net(nn.Module):
    """(N, 3, H, W) to (N, 5): a stem of stride 4, stages of stride 1 and 2.

    The second stage's block has an identity shortcut, and its input is also read by a side branch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.stage1 = Block(4, 4)
        self.stage2 = Block(4, 6, stride=2)
        self.side = nn.Conv2d(4, 6, 1, stride=2)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.conv(x)))
        x = self.stage1(x)
        y, z = self.stage2(x), self.side(x)
        return self.fc(torch.cat((y.mean((2, 3)), z.mean((2, 3))), dim=1))


STEM = Site("stem", 4, 4, 4)
STAGE1 = Site("stage1", 1, 1, 4)
STAGE2 = Site("stage2", 2, 2, 6)


def net() -> fx.GraphModule:
    torch.manual_seed(0)
    return trace(Net()).eval()


def image(side: int = 32) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def plan(
    *sites: Site,
    backbone: str = "resnet18",
    dynamic: bool = False,
    features: tuple[tuple[str, str], ...] = (),
    **options: Any,
) -> Plan:
    """A plan of those sites, for a backbone whose survey knows no more than its features."""
    nowhere = Place("", 0)
    stages = tuple(
        Stage(name, (), "", Strides(), (), (), 1, nowhere, nowhere, Place(node, 0), ()) for name, node in features
    )
    return Plan(
        architecture=f"{backbone}-avgp-1222",
        backbone=backbone,
        dynamic=dynamic,
        pools="last",
        options=Options(**{"num_classes": 5, "image_size": 32, **options}),
        survey=Survey(Strides(), (), nowhere, 4, stages, None, (), "last"),
        sites=sites,
    )


def run(rewrite: Pass, module: fx.GraphModule, plan: Plan) -> Log:
    """One pass as the driver runs it."""
    driver = Driver(module, plan)
    driver(rewrite)
    return driver.finish()


def nodes(module: fx.GraphModule) -> dict[str, fx.Node]:
    return {node.name: node for node in module.graph.nodes}


def identities(module: fx.GraphModule) -> list[int]:
    """Which module and node objects a graph is made of, with what each node reads."""
    graph = [id(thing) for node in module.graph.nodes for thing in (node, *node.all_input_nodes)]
    return [*map(id, module.modules()), *map(id, module.parameters()), *graph]


def reasons(log: Log) -> dict[str, str]:
    """Why each target was left alone."""
    return {refusal.target: refusal.reason for refusal in log.refusals}


def values(module: fx.GraphModule, x: Tensor) -> dict[str, Any]:
    """What every node computes, by name. The tiny network does nothing in place."""
    interpreter = fx.Interpreter(module, garbage_collect_values=False)
    with torch.no_grad():
        interpreter.run(x)
    return {node.name: value for node, value in interpreter.env.items()}


def also_return(module: fx.GraphModule, name: str) -> None:
    """Gives a node one more user, the output."""
    output = module.graph.output_node()
    output.args = ((output.args[0], nodes(module)[name]),)
    module.recompile()
