"""The poolings, one small file per family. Built by name from `sapool.catalogue.poolings`, never by branches on names.

Every pooling maps (N, C, H, W) to (N, C', ⌊H/s⌋, ⌊W/s⌋) with C' = C: kernel = stride = s, no padding. `A` in the
docstrings is average pooling with that kernel and stride, σ the sigmoid, BN batch normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torch import nn

from sapool.catalogue.poolings import KINDS

ConvFactory = Callable[..., nn.Module]
"""Anything with the signature of `torch.nn.Conv2d`."""


def build(
    kind: str,
    channels: int,
    stride: int,
    *,
    heads: int = 1,
    patch: int = 1,
    embedding: int | None = None,
    window: bool = True,
    conv: ConvFactory = nn.Conv2d,
) -> nn.Module:
    """The pooling `kind` for a map of `channels` channels.

    Args:
        kind: a name of `sapool.catalogue.poolings.KINDS` other than `skip`.
        channels: C of the map that is pooled.
        stride: s, the downsampling factor.
        heads, patch, embedding: attention heads, side of a token's patch and token channels, for kinds with attention.
        window: window normalisation, for the self-attentive family.
        conv: what the self-attentive family's convolutions are made of.
    """
    entry = KINDS[kind]
    module, _, name = entry.target.partition(":")
    cls = getattr(import_module(module), name)
    arguments: dict[str, object] = dict(entry.options)
    if entry.attention:
        arguments |= {"heads": heads, "embedding": channels if embedding is None else embedding}
    if entry.attention == "weight":
        arguments |= {"patch": patch, "window": window, "conv": conv}
    pool = cls(channels, stride, **arguments)
    assert isinstance(pool, nn.Module)
    return pool
