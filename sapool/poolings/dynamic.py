"""Dynamic convolution (Chen et al., "Dynamic Convolution: Attention over Convolution Kernels", CVPR 2020)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
        scores = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))).flatten(1)
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
        batch, channels, height, width = x.shape
        share = self.attention(x)
        # One grouped convolution over the whole batch: each image is a group of its own.
        weight = (share @ self.weight.flatten(1)).view(batch * self.out_channels, -1, *self.kernel_size)
        bias = None if self.bias is None else (share @ self.bias).flatten()
        y = F.conv2d(
            x.reshape(1, batch * channels, height, width),
            weight,
            bias,
            self.stride,
            self.padding,
            self.dilation,
            groups=batch * self.groups,
        )
        return y.view(batch, self.out_channels, *y.shape[-2:])

    def extra_repr(self) -> str:
        settings = OrderedDict(
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups,
            bias=self.bias is not None, kernels=self.weight.shape[0], temperature=self.attention.temperature,
        )  # fmt: skip
        listed = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, {listed}"
