"""How near one tensor is to another, and whether it has died."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-6
"""Of the largest value: a deviation below it is no structure but float32's rounding."""
STEP = 1 / 255
"""Of the largest value: the step of 8-bit integers whose range reaches from 0 to it. They know no deviation below."""


@dataclass(frozen=True)
class Compared:
    """One tensor of a file against the model's, over all images.

    Attributes:
        name: of the output, or of the pool.
        what: "output" or "weights".
        largest: of the model's values, absolute.
        error: the largest difference, as a part of `largest`.
        mean_error: the mean difference, as a part of `largest`.
        cosine: of the two as vectors.
        correlation: of the two over places, channels and images; None where the model's is flat.
        finite: whether every value of the file's is a number.
        rounding: what the model itself is off by in float32, of `largest`: its largest difference from float64.
        alive: how much of the model's deviation over places and images the file's has; None where the model's is flat.
    """

    name: str
    what: str
    largest: float
    error: float
    mean_error: float
    cosine: float
    correlation: float | None
    finite: bool
    rounding: float
    alive: float | None


def compared(
    name: str, what: str, expected: Tensor, exact: Tensor, found: Tensor, *, step: float = ROUNDING
) -> Compared:
    """Compares a file's tensor with the model's, of the same shape.

    Args:
        name, what: of the tensor.
        expected: the model's.
        exact: the model's in float64.
        found: the file's.
        step: of the largest value; what deviates by less counts as flat.
    """
    assert expected.shape == found.shape, (name, expected.shape, found.shape)
    a, b = expected.double().flatten(), found.double().flatten()
    largest = float(a.abs().max())
    scale = largest or 1.0
    difference = (a - b).abs()
    deviation, theirs = float(a.std()) if len(a) > 1 else 0.0, float(b.std()) if len(b) > 1 else 0.0
    flat = deviation <= step * scale
    both = (a - a.mean()) @ (b - b.mean())
    product = float((a - a.mean()).norm() * (b - b.mean()).norm())
    lengths = float(a.norm() * b.norm())
    return Compared(
        name,
        what,
        largest,
        float(difference.max()) / scale,
        float(difference.mean()) / scale,
        float(a @ b) / lengths if lengths else float(torch.equal(a, b)),
        None if flat else (float(both) / product if product else 0.0),
        bool(torch.isfinite(b).all()),
        float((a - exact.double().flatten()).abs().max()) / scale,
        None if flat else theirs / deviation,
    )
