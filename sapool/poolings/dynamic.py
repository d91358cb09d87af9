"""Dynamic convolution (Chen et al., "Dynamic Convolution: Attention over Convolution Kernels", CVPR 2020)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

_CACHE = 16 * 2**20
"""Bytes of kernels that a processor keeps near: mixed kernels beyond it go out to memory and come back."""
_FURTHER_PRODUCTS = 160
"""That cost as much as taking one weight of a mixed kernel to memory and back, here 12 bytes at 80 products a byte."""
_CHANNEL_BLOCK = 16
"""Channels that a grouped convolution takes at a time; with fewer it does without vectors."""


class KernelAttention(nn.Module):
    """How much of each kernel an image takes: softmax(fc2(ReLU(fc1(global average)))/T), (N, C, H, W) to (N, K).

    fc1 is 1×1 without bias to ⌊C/4⌋ + 1 channels (K when C = 3), fc2 is 1×1 with bias, which starts at 0, to K.
    """

    def __init__(self, channels: int, kernels: int, temperature: float) -> None:
        super().__init__()
        hidden = kernels if channels == 3 else channels // 4 + 1
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, kernels, 1)
        nn.init.zeros_(self.fc2.get_parameter("bias"))
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        average = F.adaptive_avg_pool2d(x, 1)
        if _exporting():
            scores = self.fc2(F.relu(self.fc1(average))).flatten(1)
        else:  # the same as products of matrices, which cost a fifth of convolutions of one pixel
            hidden = F.relu(F.linear(average.flatten(1), self.fc1.weight.flatten(1)))
            scores = F.linear(hidden, self.fc2.weight.flatten(1), self.fc2.bias)
        return torch.softmax(scores / self.temperature, dim=1)


class DynamicConv2d(nn.Module):
    """A convolution whose kernel is mixed for each image from K kernels (equation 1 and section 3.1 of the paper).

    Takes the arguments of `torch.nn.Conv2d`. Kernels are initialised Kaiming-uniform, biases zero. The temperature T
    flattens the mixture; the paper anneals it to 1 in the first epochs (`attention.temperature`).

    Args:
        kernels: K.
        temperature: T.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        kernels: int = 4,
        temperature: float = 34.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = nn.Parameter(torch.empty(kernels, out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.zeros(kernels, out_channels)) if bias else None
        self.attention = KernelAttention(in_channels, kernels, temperature)
        for kernel in self.weight.detach():
            nn.init.kaiming_uniform_(kernel)

    @classmethod
    def like(cls, conv: nn.Conv2d) -> DynamicConv2d:
        """A dynamic convolution of `conv`'s shape, device and dtype, with kernels of its own."""
        device, dtype = conv.weight.device, conv.weight.dtype
        dynamic = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        if all(value.device == device and value.dtype == dtype for value in dynamic.parameters()):
            return dynamic  # tensors of torch's FakeTensorMode can't be converted, and needn't be
        return dynamic.to(device, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Memory formats are of four dimensions: kernels are converted as more output channels.
        def convert(tensor: Tensor) -> Tensor:
            return torch.unflatten(fn(tensor.flatten(0, 1)), 0, tensor.shape[:2]) if tensor.dim() == 5 else fn(tensor)

        return super()._apply(convert, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        share = self.attention(x)
        way = self._grouped if _exporting() else self._way(x)
        return way(x, share)

    def _way(self, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The cheapest of four orders of the same sum, by the shapes (figures: docs/speed.md).

        Programs that are exported take the grouped one, whatever their batch.
        """
        if len(x) < 2 or self.groups > 1 or isinstance(self.padding, str):
            return self._grouped
        if self.kernel_size == (1, 1) and _pair(self.padding) == (0, 0):
            return self._multiplied
        if self.in_channels < _CHANNEL_BLOCK:
            return self._one_by_one
        kernels, size = len(self.weight), self.weight[0].numel()
        copied = len(x) * size * x.element_size()
        further = (kernels - 1) * prod(self._output_size(x))
        return self._mixed_after if copied > _CACHE and further <= _FURTHER_PRODUCTS else self._grouped

    def _mixed(self, share: Tensor) -> tuple[Tensor, Tensor | None]:
        """Each image's own kernel and bias, (N, out, in/groups, k, k) and (N, out)."""
        weight = (share @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        return weight, None if self.bias is None else share @ self.bias

    def _grouped(self, x: Tensor, share: Tensor) -> Tensor:
        """One grouped convolution over the whole batch: each image is a group of its own."""
        batch, channels, height, width = x.shape
        weight, bias = self._mixed(share)
        y = F.conv2d(
            x.reshape(1, batch * channels, height, width),
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            self.stride,
            self.padding,
            self.dilation,
            groups=batch * self.groups,
        )
        return y.view(batch, self.out_channels, *y.shape[-2:])

    def _one_by_one(self, x: Tensor, share: Tensor) -> Tensor:
        """A convolution for each image, where a group has fewer channels than a vector."""
        weight, bias = self._mixed(share)
        biases = [None] * len(x) if bias is None else bias.unbind()
        images = zip(x.unsqueeze(1), weight.unbind(), biases, strict=True)
        return torch.cat([F.conv2d(*image, self.stride, self.padding, self.dilation) for image in images])

    def _multiplied(self, x: Tensor, share: Tensor) -> Tensor:
        """1×1: a product of matrices for each image."""
        down, across = _pair(self.stride)
        x = x[:, :, ::down, ::across]
        weight, bias = self._mixed(share)
        weight, pixels = weight.flatten(2), x.flatten(2)
        y = torch.bmm(weight, pixels) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, pixels)
        return y.view(len(x), self.out_channels, *x.shape[-2:])

    def _mixed_after(self, x: Tensor, share: Tensor) -> Tensor:
        """All K kernels over all images in one product, whose outputs are mixed: no kernel is copied.

        A convolution is linear in its kernel. As a product of matrices, because oneDNN's convolution would first bring
        the kernels into an order of its own, which costs more than these few pixels.
        """
        kernels, size = len(self.weight), self._output_size(x)
        columns = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)  # type: ignore[arg-type]
        outputs = self.weight.flatten(2).flatten(0, 1) @ columns.transpose(0, 1).flatten(1)
        y = torch.einsum("nk,konp->nop", share, outputs.view(kernels, self.out_channels, len(x), -1))
        if self.bias is not None:
            y = y + (share @ self.bias).unsqueeze(2)
        return y.view(len(x), self.out_channels, *size)

    def _output_size(self, x: Tensor) -> tuple[int, int]:
        sides = zip(
            x.shape[-2:],
            self.kernel_size,
            *(_pair(value) for value in (self.stride, self.padding, self.dilation)),  # type: ignore[arg-type]
            strict=True,
        )
        height, width = (
            (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, stride, padding, dilation in sides
        )
        return height, width

    def extra_repr(self) -> str:
        settings = OrderedDict(
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups,
            bias=self.bias is not None, kernels=self.weight.shape[0], temperature=self.attention.temperature,
        )  # fmt: skip
        listed = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, {listed}"


def _exporting() -> bool:
    """Whether a program is being made, for any batch and for runtimes whose costs are others, or is being counted."""
    if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return True
    return not torch.compiler.is_compiling() and _get_current_dispatch_mode() is not None


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
