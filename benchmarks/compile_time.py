"""`python -m benchmarks.compile_time`: seconds of `sapool.compile` against the number of a graph's nodes.

Residual networks of growing depth show how it grows; backbones of the catalogue and of timm what it is. Without
weights: making random numbers is the builder's time, not the compiler's.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

import sapool
from sapool.catalogue.backbones import BACKBONES
from sapool.compiler import baseline
from sapool.planning import survey

_DEPTHS = (4, 8, 16, 32, 64, 96, 128)
_NAMES = (
    "resnet18", "resnet50", "mobilenet", "efficientnet_b0", "convnext_tiny", "regnet_y_1_6gf", "densenet121",
    "efficientnet_v2_s", "efficientnet_b4", "densenet161", "timm:resnet50d", "timm:mobilenetv4_conv_small",
    "timm:ghostnetv2_100", "timm:res2net50_26w_4s", "timm:skresnext50_32x4d",
)  # fmt: skip


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.shortcut = nn.Conv2d(channels, channels, 1, stride) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))) + self.shortcut(x))


def residual(depth: int) -> nn.Module:
    """A stem and four stages of `depth` blocks."""
    stages = [nn.Sequential(*(Block(8, 2 if first == 0 else 1) for first in range(depth))) for _ in range(4)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def seconds(text: str, backbone: nn.Module | None, repeats: int) -> tuple[int, float]:
    """Nodes of the backbone's graph, and the median time of compiling it."""
    with torch.device("meta"):
        nodes = len(baseline(sapool.compile(text, backbone=backbone).plan, backbone).graph.nodes)
    statement = "with torch.device('meta'): sapool.compile(text, backbone=backbone)"
    timer = Timer(statement, globals={"torch": torch, "sapool": sapool, "text": text, "backbone": backbone})
    return nodes, median(timer.timeit(1).mean for _ in range(repeats))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print("| backbone | nodes | seconds | milliseconds a node |\n|---|---|---|---|")
    for name in _NAMES:
        strides = BACKBONES[name].strides if name in BACKBONES else survey(name).unchanged
        _show(name, *seconds(f"{name}-nlp_headfix2_nowin-{strides}", None, repeats))
    for depth in _DEPTHS:
        with torch.device("meta"):
            own = residual(depth)
        _show(f"{4 * depth} residual blocks", *seconds("nlp_headfix2_nowin-2222", own, repeats))


def _show(name: str, nodes: int, taken: float) -> None:
    print(f"| {name} | {nodes} | {taken:.2f} | {1000 * taken / nodes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
