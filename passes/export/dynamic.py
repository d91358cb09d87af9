"""Dynamic convolutions for runtimes whose kernels are constants: outputs are mixed in place of kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from sapool.ir.plan import Plan
from sapool.passes.record import Log
from sapool.poolings.dynamic import DynamicConv2d


class MixedOutputs(nn.Module):
    """Σ a_k·(W_k ∗ x + b_k), which is (Σ a_k·W_k) ∗ x + Σ a_k·b_k: one convolution a kernel, so K times the work.

    (N, C, H, W) to what the dynamic convolution returns; each image is mixed by itself.
    """

    def __init__(self, conv: DynamicConv2d) -> None:
        super().__init__()
        self.attention = conv.attention
        arguments: dict[str, Any] = {
            "stride": conv.stride,
            "padding": conv.padding,
            "dilation": conv.dilation,
            "groups": conv.groups,
        }
        self.kernels = nn.ModuleList()
        for index, weight in enumerate(conv.weight.detach()):
            plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, **arguments)  # type: ignore[arg-type]
            plain.weight = nn.Parameter(weight.clone())
            bias = conv.bias.detach()[index].clone() if conv.bias is not None else torch.zeros(conv.out_channels)
            plain.bias = nn.Parameter(bias)
            self.kernels.append(plain)

    def forward(self, x: Tensor) -> Tensor:
        shares = self.attention(x)
        total: Tensor | None = None
        for index, kernel in enumerate(self.kernels):
            part: Tensor = kernel(x) * shares[:, index : index + 1, None, None]
            total = part if total is None else total + part
        assert total is not None
        return total


def mix_outputs(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Replaces each dynamic convolution by one convolution a kernel, whose outputs are mixed. Exact."""
    for path, conv in list(module.named_modules()):
        if isinstance(conv, DynamicConv2d):
            module.set_submodule(path, MixedOutputs(conv))
            log.rewrote("", path, f"one kernel mixed of {len(conv.weight)}", f"a mixture of {len(conv.weight)} outputs")
