"""Attention for runtimes that hold every tensor whole: head by head, and in blocks of query rows."""

from __future__ import annotations

from math import ceil
from typing import cast

import torch
from torch import Tensor, fx, nn

from sapool.ir.plan import Plan
from sapool.passes.record import Log
from sapool.poolings.attention import Positions, SelfAttention, rows_of_heads

BLOCKS = 64
"""Of query rows, at most: each costs a runtime some five operations a head, and about 500 bytes of its own memory."""
SCORE_BYTES = 4
"""Of each score while a softmax runs: 16 bits before it and 16 behind it."""
_HEADS_APART = 8
_PROJECTIONS = ("query", "key", "value")
_MAPS = 4
"""Of a network's largest map, what its blocks hold anyhow: a map, its expansion, and what comes of that."""


class FixedPositions(nn.Module):
    """Learned positions of one grid, as a constant (1, d, height, width)."""

    table: Tensor

    def __init__(self, positions: Positions, height: int, width: int) -> None:
        super().__init__()
        with torch.no_grad():
            self.register_buffer("table", positions(height, width).contiguous())

    def forward(self, height: int, width: int) -> Tensor:
        assert self.table.shape[-2:] == (height, width), (self.table.shape, height, width)
        return self.table


class RowwiseAttention(nn.Module):
    """A `SelfAttention` whose scores are held for one head, and for some rows of queries, at a time. Exact.

    softmax(q kᵀ) is taken row by row, so rows can be computed apart: of L × L scores a head only rows × L are held.
    Projections are cut into heads by their weights, so that no tensor has to be transposed; where there are more than
    eight heads, in which each is small, they stay together.

    Args:
        attention: the original; its weights are copied.
        rows: query rows at a time.
    """

    def __init__(self, attention: SelfAttention, rows: int) -> None:
        super().__init__()
        self.heads, self.rows = attention.heads, rows
        embedding = attention.in_proj_weight.shape[1]
        width = embedding // self.heads
        weight, bias = attention.in_proj_weight.detach().clone(), attention.in_proj_bias.detach().clone()
        weight[:embedding] *= width**-0.5
        bias[:embedding] *= width**-0.5
        self.apart = self.heads <= _HEADS_APART
        parts = self.heads if self.apart else 1
        for name in _PROJECTIONS:
            self.add_module(name, nn.ModuleList(nn.Linear(embedding, embedding // parts) for _ in range(parts)))
        for part, layers in enumerate(zip(*self._projections(), strict=True)):
            for layer, rows_of_part in zip(layers, rows_of_heads(embedding, parts, part, part + 1), strict=True):
                layer.weight = nn.Parameter(weight[rows_of_part].clone())
                layer.bias = nn.Parameter(bias[rows_of_part].clone())
        self.out_proj = attention.out_proj

    def over(self, x: Tensor) -> Tensor:
        """Attention over the pixels of a map, (N, d, h, w) to the same."""
        batch, channels, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        return self(tokens).reshape(batch, height, width, channels).permute(0, 3, 1, 2)  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, d) to (N, L, d)."""
        batch, length, channels = tokens.shape
        found = []
        for query, key, value in zip(*self._projections(), strict=True):
            q, k, v = query(tokens), key(tokens), value(tokens)
            if not self.apart:
                q, k, v = (self._headed(part) for part in (q, k, v))
            found.append(self._mixed(q, k.transpose(1, 2), v))
        if self.apart:
            return self.out_proj(torch.cat(found, dim=2) if len(found) > 1 else found[0])  # type: ignore[no-any-return]
        together = found[0].reshape(batch, self.heads, length, -1).permute(0, 2, 1, 3).reshape(batch, length, channels)
        return self.out_proj(together)  # type: ignore[no-any-return]

    def _projections(self) -> tuple[nn.ModuleList, ...]:
        return tuple(cast("nn.ModuleList", self.get_submodule(name)) for name in _PROJECTIONS)

    def _headed(self, x: Tensor) -> Tensor:
        batch, length, channels = x.shape
        split = x.reshape(batch, length, self.heads, channels // self.heads).permute(0, 2, 1, 3)
        return split.reshape(batch * self.heads, length, channels // self.heads)

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        length = query.shape[1]
        blocks = [
            torch.softmax(query[:, first : first + self.rows] @ key, dim=-1) @ value
            for first in range(0, length, self.rows)
        ]
        return torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]

    def extra_repr(self) -> str:
        return f"heads={self.heads}, rows={self.rows}"


def split_attention(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Computes each pool's attention head by head and in blocks of rows, with positions of the plan's image. Exact.

    A block has as many rows as hold their scores in what the network's largest map and its like take anyhow.
    """
    held = _MAPS * max((site.channels * site.map[0] * site.map[1] for site in plan.sites if site.map), default=0)
    for site in plan.sites:
        pool = module.get_submodule(site.module) if site.pool is not None else None
        attention = getattr(pool, "attention", None)
        if not isinstance(attention, SelfAttention) or site.attention is None or site.map is None:
            continue
        height, width = (side // site.attention.patch for side in site.map)
        length, together = height * width, 1 if attention.heads <= _HEADS_APART else attention.heads
        rows = min(length, max(held // (SCORE_BYTES * length * together), ceil(length / BLOCKS), 1))
        rows = ceil(length / ceil(length / rows))
        assert pool is not None
        pool.attention = RowwiseAttention(attention, rows)
        position = getattr(pool, "position", None)
        if isinstance(position, Positions):
            pool.position = FixedPositions(position, height, width)
        blocks = ceil(length / rows)
        after = f"{attention.heads} heads apart" if together == 1 else "heads together"
        log.rewrote(site.name, site.module, f"attention over {length} tokens", f"{after}, {blocks} blocks of rows")
