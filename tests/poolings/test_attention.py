"""Self-attention is that of `torch.nn.MultiheadAttention`; positions stretch where a grid outgrows their tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sapool.poolings.attention import Positions, SelfAttention
from tests import literal
from tests.poolings.cases import TOLERANCE, Case, assert_close, gradients, randomise

# Heads 1, 4, 8, 16, 20 and 32 channels wide.
SHAPES = [(8, 8), (8, 2), (16, 2), (16, 1), (40, 2), (64, 2)]


class Multihead(nn.MultiheadAttention):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        mixed, weights = super().forward(tokens, tokens, tokens, need_weights=True)
        assert weights is not None
        assert weights.std() > 0.01, "attention that is uniform tells little"
        return mixed


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("embedding", "heads"), SHAPES)
def test_is_multihead_attention(embedding: int, heads: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(embedding, heads)
    randomise(attention)
    attention.to(dtype)
    # Keys, order and shapes are those of torch's, so either loads the other's weights.
    expected = Multihead(embedding, heads, batch_first=True).to(dtype)
    expected.load_state_dict(attention.state_dict())
    tokens = torch.randn(3, 11, embedding, dtype=dtype)
    seen = gradients(attention, tokens)
    assert seen.keys() == {"output", "input", *dict(attention.named_parameters())}
    assert_close(seen, gradients(expected, tokens))


def test_initialisation_is_that_of_multihead_attention() -> None:
    embedding = 96
    torch.manual_seed(0)
    attention = SelfAttention(embedding, 4)
    expected = nn.MultiheadAttention(embedding, 4)
    # Xavier's bound of a (3d, d) matrix, and that of nn.Linear.
    bounds = {"in_proj_weight": (6 / (4 * embedding)) ** 0.5, "out_proj.weight": embedding**-0.5}
    for name, bound in bounds.items():
        for values in (attention.get_parameter(name), expected.get_parameter(name)):
            assert 0.99 * bound < values.abs().max() <= bound
            assert values.mean().abs() < 0.03 * bound
            assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.03), "uniform within the bound"
    for name in ("in_proj_bias", "out_proj.bias"):
        assert not attention.get_parameter(name).any()
        assert not expected.get_parameter(name).any()


@pytest.mark.parametrize("embedding", [2, 7, 8])
def test_positions_are_table_entries(embedding: int) -> None:
    position = Positions(embedding)
    assert position.row.shape == (256, embedding - embedding // 2)
    assert position.column.shape == (256, embedding // 2)
    assert min(p.min().item() for p in position.parameters()) >= 0
    assert 0.99 < max(p.max().item() for p in position.parameters()) <= 1
    grid = position(256, 5)
    assert grid.shape == (1, embedding, 256, 5)
    for row, column in ((0, 0), (3, 4), (255, 1)):
        wanted = torch.cat((position.column[column], position.row[row]))
        assert torch.equal(grid[0, :, row, column], wanted)


@pytest.mark.parametrize("size", [(257, 3), (2, 300), (300, 513)], ids=str)
def test_positions_stretch_over_longer_grids(size: tuple[int, int]) -> None:
    position = Positions(4).double()
    assert_close({"grid": position(*size)}, {"grid": literal.Positions(position)(*size)})


def test_stretched_positions_keep_a_ramp() -> None:
    """Entry i of 512 is read at (i + ½)/2 − ½ of a table of 256."""
    position = Positions(2).double()
    ramp = torch.arange(256.0, dtype=torch.float64).unsqueeze(1)
    position.row.data.copy_(ramp)
    stretched = position(512, 1)[0, 1, :, 0]
    wanted = ((torch.arange(512, dtype=torch.float64) + 0.5) / 2 - 0.5).clamp(0, 255)
    assert_close({"rows": stretched}, {"rows": wanted})


@pytest.mark.parametrize(
    "case",
    [
        Case("nlp", 1, (1, 300), window=False, channels=4, embedding=4),
        Case("nlp", 2, (600, 2), patch=2, window=False, channels=4, embedding=4),
        Case("dfmnlp", 2, (2, 600), patch=2, channels=4, embedding=4),
        Case("attnpool", 2, (300, 2), channels=4, embedding=4),
    ],
    ids=str,
)
def test_long_maps_use_all_of_a_table(case: Case) -> None:
    pool, x = case.pool(), case.map(batch=1)
    seen = gradients(pool, x)
    assert_close(seen, gradients(literal.of(case.kind, pool), x))
    long = "row" if case.size[0] > case.size[1] else "column"
    assert seen[f"position.{long}"].abs().amax(1).min() > 1e-6
