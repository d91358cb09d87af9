"""FLC pooling (Grabinski et al., ECCV 2022: "FrequencyLowCut Pooling - Plug & Play against Catastrophic Overfitting").

FLC is for "frequency low cut".
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling


@register_pooling(
    "flc",
    summary="low-frequency cut: the Fourier coefficients that the smaller map can hold",
    use="aliasing should be ruled out, for instance in adversarial training; dear on large maps",
    source="Grabinski et al., ECCV 2022",
    rank=8,
)
class FrequencyLowCutPool(Pooling):
    """`flc`: the real part of the inverse Fourier transform of the h × w lowest frequencies of a map, h = ⌊H/s⌋.

    (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋), of the same mean. A map that has no higher frequencies loses nothing.

    Cropping a spectrum is linear and goes by rows and columns apart, so it is done by matrix products and no runtime
    needs a Fourier transform: y = Dₕ·x·Dᵥᵀ − Iₕ·x·Iᵥᵀ, where D + iI is, of each axis, the sum of exp(2πik(n/h − m/H))/H
    over the frequencies k from −h/2 to h/2 − 1 (−(h − 1)/2 to (h − 1)/2 for odd h). All frequencies but −h/2 come with
    their opposites, so I is 0 for odd h and has rank 1 for even h.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if min(height, width) < self.stride:
            raise ValueError(f"a map of {height}x{width} pixels is smaller than a window of {self.stride}")
        rows, columns = height // self.stride, width // self.stride
        y = _low_cut(height, rows, x) @ F.linear(x, _low_cut(width, columns, x))
        if rows % 2 or columns % 2:
            return y
        (down, read), (across, beside) = _unpaired(height, rows, x), _unpaired(width, columns, x)
        return y - down[:, None] * (read[None] @ F.linear(x, beside[None])) * across


def _low_cut(size: int, kept: int, like: Tensor) -> Tensor:
    """D, (kept, size): what cropping the spectrum of so many pixels to so many frequencies does to them."""
    # cos(2πk(n/h − m/H)), of k and −k together.
    dtype = torch.promote_types(like.dtype, torch.float32)
    out = torch.arange(kept, device=like.device)[:, None, None] * size
    pixel = torch.arange(size, device=like.device)[None, :, None] * kept
    frequency = torch.arange(1, kept // 2 + 1, device=like.device)
    # Whole turns are taken off in whole numbers, so that nothing is rounded before the cosine.
    turns = ((out - pixel) * frequency).remainder(kept * size).to(dtype) / (kept * size)
    twice = torch.where(frequency * 2 == kept, 1.0, 2.0).to(dtype)
    matrix = ((turns * (2 * pi)).cos() * twice).sum(2)
    return ((matrix + 1) / size).to(like.dtype)


def _unpaired(size: int, kept: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """I of an even number of frequencies, as the product of a column (kept) and a row (size): (−1)ⁿ·sin(πmh/H)/H."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    turns = (torch.arange(size, device=like.device) * kept).remainder(2 * size).to(dtype) / (2 * size)
    signs = 1 - 2 * torch.arange(kept, device=like.device).remainder(2)
    return signs.to(like.dtype), ((turns * (2 * pi)).sin() / size).to(like.dtype)
