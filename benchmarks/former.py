"""The formulation that ours took the place of, written down so that the gain can be measured again by anyone.

A dynamic convolution mixes a kernel for each image and convolves the batch as groups; it computes what ours does.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.plain import replaced
from sapool.model import CompiledModel
from sapool.poolings.dynamic import DynamicConv2d


class GroupedConv(nn.Module):
    """A dynamic convolution as one grouped convolution, each image a group of its own."""

    def __init__(self, conv: DynamicConv2d) -> None:
        super().__init__()
        self.conv = copy.deepcopy(conv)

    def forward(self, x: Tensor) -> Tensor:
        conv, (batch, channels, height, width) = self.conv, x.shape
        attention = conv.attention
        scores = attention.fc2(F.relu(attention.fc1(F.adaptive_avg_pool2d(x, 1)))).flatten(1)
        share = torch.softmax(scores / attention.temperature, dim=1)
        weight = (share @ conv.weight.flatten(1)).view(batch * conv.out_channels, -1, *conv.kernel_size)
        bias = None if conv.bias is None else (share @ conv.bias).flatten()
        images = x.reshape(1, batch * channels, height, width)
        y = F.conv2d(images, weight, bias, conv.stride, conv.padding, conv.dilation, groups=batch * conv.groups)
        return y.view(batch, conv.out_channels, *y.shape[-2:])


def former(model: CompiledModel) -> nn.Module:
    """A copy of a model that computes in the former way what has a new one since."""
    return replaced(model, DynamicConv2d, GroupedConv)
