"""Multi-head self-attention over the tokens of a map, and the learned positions added to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The CPU's fused kernel works on whole vectors: narrower heads run faster padded to this width, with the scale kept.
# Programs that are exported run elsewhere, where the padding would only be more to compute.
_NARROWEST_HEAD = 16


class Positions(nn.Module):
    """Learned positions: a table for rows and one for columns, initialised U(0, 1).

    The first ⌊d/2⌋ channels of a token's position come from its column, the rest from its row. Grids longer than the
    tables stretch them linearly.

    Args:
        embedding: d, the tokens' channels.
        length: entries of a table.
    """

    def __init__(self, embedding: int, length: int = 256) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.rand(length, embedding - embedding // 2))
        self.column = nn.Parameter(torch.rand(length, embedding // 2))

    def forward(self, height: int, width: int) -> Tensor:
        """Positions of a height × width grid, (1, d, height, width)."""
        row = self._entries(self.row, height).unsqueeze(2).expand(-1, -1, width)
        column = self._entries(self.column, width).unsqueeze(1).expand(-1, height, -1)
        return torch.cat((column, row)).unsqueeze(0)

    @staticmethod
    def _entries(table: Tensor, count: int) -> Tensor:
        """The first `count` entries, (channels, count)."""
        if count > table.shape[0]:
            return F.interpolate(table.t().unsqueeze(0), size=count, mode="linear", align_corners=False)[0]
        return table[:count].t()


class SelfAttention(nn.Module):
    """Multi-head self-attention without dropout; parameters and initialisation of `torch.nn.MultiheadAttention`.

    The scores are never held: `scaled_dot_product_attention` streams over them, so memory grows with the number of
    tokens and not with its square.

    Args:
        embedding: d, channels of a token; a multiple of `heads`.
        heads: h.
    """

    def __init__(self, embedding: int, heads: int) -> None:
        super().__init__()
        assert embedding % heads == 0, (embedding, heads)
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embedding, embedding))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embedding))
        self.out_proj = nn.Linear(embedding, embedding)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, d) to (N, L, d)."""
        batch, length, embedding = tokens.shape
        width = embedding // self.heads
        projected = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        # (3, N, heads, L, width)
        qkv = projected.view(batch, length, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        if width < _NARROWEST_HEAD and tokens.device.type == "cpu" and not torch.compiler.is_exporting():
            qkv = F.pad(qkv, (0, _NARROWEST_HEAD - width))
        query, key, value = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=width**-0.5)[..., :width]
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, length, embedding))  # type: ignore[no-any-return]

    def over(self, x: Tensor) -> Tensor:
        """Attention over the pixels of a map, (N, d, h, w) to the same."""
        tokens = self(x.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, x.shape[-2:])  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"embedding={self.in_proj_weight.shape[1]}, heads={self.heads}"


def rows_of_heads(embedding: int, heads: int, first: int, stop: int) -> tuple[slice, slice, slice]:
    """Which rows of `in_proj_weight` make the queries, keys and values of the heads from `first` to `stop`.

    Projected with these rows alone, heads come out as they do together: they are independent but for `out_proj`.
    """
    width = embedding // heads
    query, key, value = (slice(part * embedding + first * width, part * embedding + stop * width) for part in range(3))
    return query, key, value


def attend(x: Tensor, attention: SelfAttention, positions: Positions | None) -> Tensor:
    """Self-attention over the pixels of (N, d, h, w) with positions added; same shape."""
    return attention.over(x if positions is None else x + positions(*x.shape[-2:]))
