"""What a self-attentive network can't go below on this machine: `python -m benchmarks --floor`.

The limit of a network is the time of its twin with average pools, and besides it what its attention computes whatever
the program: multiplications at the rate of a large product of matrices, and exponentials at the rate of `torch.exp` on
numbers that are near, both measured here. A step takes the multiplications three times, forward and for both
gradients; its attention computes scores again rather than hold them, which is one product and its exponentials more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.benchmark import Timer

import sapool
from sapool.model import CompiledModel

NAMES = (
    "resnet18-nlp-1222",
    "resnet18-nlp_headfix2_nowin_reduced-1222",
    "resnet18-dfmnlp_reduced-1222",
    "mobilenet-nlp-1222121",
)
"""The self-attentive networks that are told of; the twin has `avgp` in the pool's place."""


@dataclass(frozen=True)
class Rates:
    """Of this machine, a second: multiply-accumulates and exponentials in float32."""

    products: float
    exponentials: float


@dataclass(frozen=True)
class Work:
    """What a network computes for one image beyond its twin: multiply-accumulates, those of scores, exponentials."""

    products: int
    scores: int
    exponentials: int

    def seconds(self, rates: Rates, batch: int, mode: str) -> float:
        """What that takes at the machine's rates, in a forward pass or a training step."""
        if mode == "forward":
            products, exponentials = self.products, self.exponentials
        else:
            products, exponentials = 3 * self.products + self.scores, 2 * self.exponentials
        return batch * (products / rates.products + exponentials / rates.exponentials)


def rates() -> Rates:
    """Measured: the fastest of nine, by a product of 1024 × 1024 matrices and by exponentials of 2¹⁶ numbers."""
    matrix, out = torch.randn(1024, 1024), torch.empty(1024, 1024)
    numbers, powers = torch.randn(2**16), torch.empty(2**16)
    return Rates(
        products=1024**3 / _seconds(lambda: torch.mm(matrix, matrix, out=out)),
        exponentials=2**16 / _seconds(lambda: torch.exp(numbers, out=powers)),
    )


def _seconds(call: Callable[[], object]) -> float:
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return min(timer.timeit(20).mean for _ in range(9))


def twin(name: str) -> str:
    """The same network with average pools: the second part of its name's pools is the kind and its modifiers."""
    family, _, strides = name.split("-")
    return f"{family}-avgp-{strides}"


def work(model: CompiledModel, other: CompiledModel) -> Work:
    """What a model computes for one image beyond its twin."""
    scores = exponentials = 0
    for site in model.plan.sites:
        if site.attention is None or site.map is None:
            continue
        height, width = (side // site.attention.patch for side in site.map)
        tokens = height * width
        scores += tokens**2 * site.attention.embedding
        # A softmax takes one for each score, and a weight two: the sigmoid's and its own.
        exponentials += site.attention.heads * tokens**2 + 2 * site.channels * tokens
    macs = (sapool.cost(each).total.macs for each in (model, other))
    return Work(next(macs) - next(macs), scores, exponentials)
