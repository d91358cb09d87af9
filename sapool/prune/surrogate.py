"""What torch-pruning is shown of a network: the same convolutions, with pools and dynamic kernels made plain.

Its dependency graph is traced through autograd, where attention's reshaping and transposing would have to be told by
hand. A pool keeps channels apart from each other as average pooling does, so that is what stands for it; how its own
layers follow is `sapool.prune.pools`' to say.
"""

from __future__ import annotations

import copy

import torch
from torch import fx, nn

from sapool.model import CompiledModel
from sapool.poolings import Pooling
from sapool.poolings.dynamic import DynamicConv2d

MARK = "1"
"""Under a pool's path, the layer whose channels are the pool's."""


def surrogate(model: CompiledModel) -> fx.GraphModule:
    """A twin of a model, in eval mode on the CPU, whose channels depend on each other as the model's do."""
    twin = copy.deepcopy(model).cpu().float().eval().requires_grad_(True)
    for site in model.plan.sites:
        if site.pool is not None and site.node in {node.name for node in model.graph.nodes}:
            # A layer that has a parameter for each channel, and that no measure of importance looks at.
            mark = nn.PReLU(site.pool.channels)
            twin.set_submodule(site.module, nn.Sequential(nn.AvgPool2d(site.stride), mark))
    for path, layer in list(twin.named_modules()):
        if isinstance(layer, Pooling):  # a filter, which has no layers and rounds up
            twin.set_submodule(path, nn.AvgPool2d(layer.stride, ceil_mode=True))
    for path, layer in list(twin.named_modules()):
        if isinstance(layer, DynamicConv2d):
            twin.set_submodule(path, _plain(layer))
    return twin


@torch.no_grad()
def _plain(layer: DynamicConv2d) -> nn.Conv2d:
    """The convolution with the mean of the kernels."""
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        bias=layer.bias is not None,
    )
    plain.weight.copy_(layer.weight.mean(0))
    if layer.bias is not None and plain.bias is not None:
        plain.bias.copy_(layer.bias.mean(0))
    return plain
