"""`median`: the middle value of each window."""

import torch
from torch import Tensor
from torch.nn import functional as F

import sapool


@sapool.register_pooling("median", summary="the middle value of each window")
class MedianPool(sapool.Pooling):
    """(N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋): the lower median of each window, per channel."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows, columns = height // self.stride, width // self.stride
        windows = F.unfold(x, self.stride, stride=self.stride)
        return windows.view(batch, channels, self.stride**2, rows, columns).median(dim=2).values

    def weight(self, x: Tensor) -> Tensor:
        """Each pixel's share: all of it where it is the window's median."""
        large = self.forward(x).repeat_interleave(self.stride, 2).repeat_interleave(self.stride, 3)
        rows, columns = large.shape[2:]
        share = torch.zeros_like(x)
        share[..., :rows, :columns] = (x[..., :rows, :columns] == large).to(x.dtype)
        return share
