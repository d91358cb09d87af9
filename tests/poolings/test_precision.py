"""Pools in bfloat16: they run, return bfloat16, and lose no more than it must."""

from __future__ import annotations

import pytest
import torch

from sapool.poolings.deformable import resample
from tests import literal
from tests.poolings.cases import OTHERS, SELF_ATTENTIVE, Case, gradients

EPSILON = torch.finfo(torch.bfloat16).eps

CASES = [
    *(Case(kind, 2, (8, 12)) for kind in OTHERS),
    *(Case(kind, 3, (8, 12), 2, window, dynamic=not window) for kind in SELF_ATTENTIVE for window in (True, False)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bfloat16_model(case: Case) -> None:
    pool = case.pool().bfloat16().eval()
    x = case.map(torch.bfloat16)
    with torch.no_grad():
        y = pool(x)
        expected = literal.of(case.kind, pool.float())(x.float())
    assert y.dtype == torch.bfloat16
    assert (y - expected).abs().max() <= 3 * EPSILON * expected.abs().max()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bfloat16_model_learns(case: Case) -> None:
    pool = case.pool().bfloat16()
    found = gradients(pool, case.map(torch.bfloat16))
    assert found.keys() == {"output", "input", *dict(pool.named_parameters())}
    for name, values in found.items():
        assert values.dtype == torch.bfloat16, name
        assert values.isfinite().all(), name


def test_samples_of_a_wide_map_keep_their_places() -> None:
    """Column 300 and a half isn't a bfloat16; the sample there is rounded once, at the end."""
    torch.manual_seed(0)
    x, offset = torch.randn(1, 2, 3, 400).bfloat16(), torch.randn(1, 2, 3, 400).bfloat16()
    seen = resample(x, offset)
    expected = literal.resample(x.double(), offset.double())
    assert seen.dtype == torch.bfloat16
    assert ((seen - expected).abs() <= 0.51 * EPSILON * expected.abs() + 1e-4).all()


def test_deviation_of_a_flat_window_survives() -> None:
    """A(x²) − μ² of values around 100 that differ by 1 cancels to nothing in bfloat16."""
    pool = Case("gaussian_pool", 2, (8, 12)).pool().bfloat16().eval()
    x = (100 + torch.randint(0, 2, (2, 6, 8, 12), generator=torch.Generator().manual_seed(0))).bfloat16()
    with torch.no_grad():
        excess = pool(x) - literal.average(x.float(), 2)
        expected = literal.of("gaussian_pool", pool.float())(x.float()) - literal.average(x.float(), 2)
    assert (excess - expected).abs().max() <= 0.51 * EPSILON * 128
