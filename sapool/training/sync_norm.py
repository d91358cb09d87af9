"""Synchronised batch normalisation on the CPU, which torch's own refuses.

torch's SyncBatchNorm computes with CUDA kernels. Here the same arithmetic is two differentiable all-reduces, for trying
a many-process run on a machine without GPUs, and for testing. On GPUs torch's own is used.
"""

from __future__ import annotations

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce


class CPUSyncBatchNorm(nn.SyncBatchNorm):
    """Batch normalisation over the batches of all processes; (N, C, ...) to the same.

    In evaluation mode, or with one process, it is plain batch normalisation.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and distributed.is_initialized() and distributed.get_world_size(self.process_group) > 1):
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        local = torch.cat([input.sum(axes), input.new_tensor([input.numel() / input.shape[1]])])
        # The all-reduce's backward sums gradients over the processes, as the chain rule wants.
        total: Tensor = all_reduce(local, group=self.process_group)  # type: ignore[no-untyped-call]
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = input - mean.view(shape)
        # Two passes, as plain batch normalisation does: E[x²] - E[x]² would lose digits.
        squares = centred.square().sum(axes)
        variance: Tensor = all_reduce(squares, group=self.process_group) / count  # type: ignore[no-untyped-call]
        self._track(mean.detach(), variance.detach(), count)
        y: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance * (count / (count - 1)), weight)


class CPUSync(TorchSyncBatchNorm):
    """Lightning's plugin that replaces batch normalisation, with ours."""

    def apply(self, model: nn.Module) -> nn.Module:
        converted: nn.Module = super().apply(model)
        for module in converted.modules():
            if type(module) is nn.SyncBatchNorm:
                module.__class__ = CPUSyncBatchNorm  # the same parameters and settings, another forward
        return converted
