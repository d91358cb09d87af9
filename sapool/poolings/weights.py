"""What weight pools give to the pixels of a map: recording it while a network runs, and how uneven it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PRACTICALLY = 0.02
"""A map whose weights differ by less than this part of their mean is practically uniform."""


@contextmanager
def recording(pools: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor | None]]:
    """Meanwhile every pass through one of the pools leaves the weights that it gave, by the pool's name.

    They are (N, C, H, W) without gradient, and None for a pool that weighs nothing.
    """
    found: dict[str, Tensor | None] = {}

    def keeping(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(pool: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            weigh = getattr(pool, "weight", None)
            with torch.no_grad():
                found[name] = weigh(arguments[0]) if callable(weigh) else None

        return hook

    handles = [pool.register_forward_pre_hook(keeping(name)) for name, pool in pools.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def uniformity(weight: Tensor) -> float:
    """How evenly pixels are weighed: 1 where all weigh alike, 1/(H·W) where one pixel has all the weight.

    It is (Σw)² / (n·Σw²) of each image and channel, averaged: the part of the n pixels that effectively counts, Kish's
    effective sample size over n (Survey Sampling, 1965).

    Args:
        weight: (N, C, H, W).
    """
    w = weight.detach().double().abs().flatten(2)
    # In units of the largest: squares of large or tiny weights leave no range.
    w = w / w.amax(2, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
    squares = w.square().sum(2)
    index = torch.where(squares > 0, w.sum(2).square() / (w.shape[2] * squares), 1.0)
    return float(index.mean())


def spread(weight: Tensor) -> float:
    """The largest difference between weights, in parts of their mean size; 0 where all are alike."""
    mean = float(weight.abs().mean())
    return float(weight.max() - weight.min()) / mean if mean > 0 else 0.0
