"""Synchronised batch normalisation on the CPU, which torch's own refuses.

torch's SyncBatchNorm computes with CUDA kernels. Here the same arithmetic is two differentiable all-reduces, for trying
a many-process run on a machine without GPUs, and for testing. On GPUs torch's own is used.
"""

from __future__ import annotations

import torch
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class CPUSyncBatchNorm(_BatchNorm):
    """Batch normalisation over the batches of all processes; (N, C, ...) to the same.

    In evaluation mode, or with one process, it is plain batch normalisation. It isn't a kind of torch's SyncBatchNorm,
    because DistributedDataParallel refuses those on the CPU.
    """

    process_group = None
    """All processes, as torch's SyncBatchNorm spells it."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and distributed.is_initialized() and distributed.get_world_size() > 1):
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        # In double, as torch's own accumulates on the CPU.
        x = input.double()
        local = torch.cat([x.sum(axes), x.new_tensor([x.numel() / x.shape[1]])])
        # The all-reduce's backward sums gradients over the processes, as the chain rule wants.
        total: Tensor = all_reduce(local)  # type: ignore[no-untyped-call]
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = x - mean.view(shape)
        # Two passes: E[x²] - E[x]² would lose digits.
        variance: Tensor = all_reduce(centred.square().sum(axes)) / count  # type: ignore[no-untyped-call]
        self._track(mean.detach(), variance.detach(), count)
        y: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        unbiased = variance * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight)


class CPUSync(LayerSync):
    """Lightning's plugin that replaces batch normalisation, with ours."""

    def apply(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            # The same parameters and settings, another forward.
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = CPUSyncBatchNorm  # type: ignore[assignment]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, CPUSyncBatchNorm):
                module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
        return model
