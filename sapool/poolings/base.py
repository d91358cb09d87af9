"""What every pooling is, and how one is built by its name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from sapool.catalogue.poolings import POOLINGS

ConvFactory = Callable[..., nn.Module]
"""Anything with the signature of `torch.nn.Conv2d`."""


class Pooling(nn.Module):
    """Downsamples a map by a factor: (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋). The base class of every pooling.

    Derive from it, write `forward`, and declare the class with `sapool.register_pooling`.

    Args:
        channels: C.
        stride: s.
    """

    attention_on_patches: bool = False
    """Whether attention gives all pixels of a patch the same weight, so that window normalisation may cancel it."""

    local_factor: bool = False
    """Whether the weight has a factor of each pixel's own besides."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def start(self) -> None:
        """Sets parameters that start otherwise than a network's convolutions do; called when those have been drawn."""

    def weight(self, x: Tensor) -> Tensor | None:
        """The weight that each pixel of a map gets, (N, C, H, W), or None where pixels aren't weighted."""
        return None

    def narrow(self, channels: int) -> None:
        """Makes itself fit a map of fewer channels, where its own layers already do."""
        self.channels = channels

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


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
        kind: a name of `sapool.catalogue.poolings.POOLINGS` other than `skip`.
        channels: C of the map that is pooled.
        stride: s, the downsampling factor.
        heads, patch, embedding: attention heads, side of a token's patch and token channels, for kinds with attention.
        window: window normalisation, for the self-attentive family.
        conv: what the self-attentive family's convolutions are made of.
    """
    entry = POOLINGS.find(kind)
    arguments: dict[str, object] = dict(entry.options)
    if entry.attention:
        arguments |= {"heads": heads, "embedding": channels if embedding is None else embedding}
    if entry.attention == "weight":
        arguments |= {"patch": patch, "window": window, "conv": conv}
    pool = POOLINGS.load(kind)(channels, stride, **arguments)
    assert isinstance(pool, nn.Module)
    return pool
