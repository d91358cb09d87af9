"""An annealed temperature, into the weights."""

from __future__ import annotations

import torch
from torch import nn

from sapool.poolings.dynamic import KernelAttention

_BUILT_WITH = 34.0


@torch.no_grad()
def fold_temperature(model: nn.Module) -> None:
    """Gives every dynamic convolution the temperature that it is built with, and the outputs that it has now.

    softmax(fc2(h)/T) = softmax((34/T)·fc2(h)/34), so the last layer of the kernel attention is scaled. A file of
    weights then needs no temperature beside it.
    """
    for module in model.modules():
        if isinstance(module, KernelAttention) and module.temperature != _BUILT_WITH:
            factor = _BUILT_WITH / module.temperature
            module.fc2.weight.mul_(factor)
            assert module.fc2.bias is not None
            module.fc2.bias.mul_(factor)
            module.temperature = _BUILT_WITH
