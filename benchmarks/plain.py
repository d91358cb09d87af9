"""The self-attentive pool as its formulas are written, on torch's own layers: the baseline of the benchmark.

Attention is `torch.nn.MultiheadAttention` with its weights, the tokens are upsampled first and restored after, and both
window averages are taken over full-size maps. (The tests' oracle, `tests/literal.py`, spells out batch norm and
averages too; it would flatter us.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from sapool.model import CompiledModel
from sapool.poolings.self_attentive import SelfAttentivePool


class PlainPool(nn.Module):
    """`nlp` and its modifiers, literally; (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋)."""

    def __init__(self, pool: SelfAttentivePool) -> None:
        super().__init__()
        self.stride, self.window = pool.stride, pool.window
        self.embed, self.restore = copy.deepcopy(pool.embed), copy.deepcopy(pool.restore)
        self.position = copy.deepcopy(pool.position)
        self.attention = nn.MultiheadAttention(pool.attention.out_proj.in_features, pool.attention.heads)
        self.attention.load_state_dict(pool.attention.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x)
        height, width = tokens.shape[-2:]
        if self.position is not None:
            tokens = tokens + self.position(height, width).expand_as(tokens)
        sequence = tokens.flatten(2).permute(2, 0, 1)
        attended, _ = self.attention(sequence, sequence, sequence)
        tokens = attended.permute(1, 2, 0).unflatten(2, (height, width))
        weight = self.restore(F.interpolate(tokens, size=x.shape[-2:])).sigmoid().exp()
        pooled = F.avg_pool2d(x * weight, self.stride)
        return pooled / F.avg_pool2d(weight, self.stride) if self.window else pooled


def replaced(model: CompiledModel, kind: type[nn.Module], made: Callable[..., nn.Module]) -> nn.Module:
    """A copy of a model in which each module of a kind is what is made of it."""
    twin = copy.deepcopy(model)
    for path, module in list(twin.named_modules()):
        if isinstance(module, kind):
            twin.set_submodule(path, made(module))
    return twin


def plain(model: CompiledModel) -> nn.Module:
    """A copy of a model whose self-attentive pools are computed literally."""
    return replaced(model, SelfAttentivePool, PlainPool)
