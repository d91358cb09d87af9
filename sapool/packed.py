"""Convolutions whose kernels stay laid out as oneDNN wants them, for inference on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

WORTH = 2**18
"""Numbers of a kernel from which on packing pays.

Bringing a kernel into order takes as long as it has bytes, whatever the map and the number of images; a call with a
packed one costs 25 µs more than one without. Over 29 shapes and batches of 1, 2 and 8, packed calls were never slower
from 2¹⁸ numbers on (512 channels, 1×1: 0.74 to 0.98 of the time; 3×3 on 8×8: 0.62 to 0.91), and took up to 1.6 times as
long with 2¹⁶. Depthwise kernels don't come near.
"""


class PackedConv2d(nn.Conv2d):
    """A `torch.nn.Conv2d` that brings its kernel into oneDNN's order once, and not at each call.

    For few images that order costs more than the convolution where kernels are large. It is kept beside the kernel, so
    in as many bytes again, from the first call on, and made anew when the kernel or the shape of the map changes.
    Where gradients are taken, programs made, or the numbers aren't float32 on a CPU, it is an ordinary convolution.
    """

    _packed: tuple[object, Tensor] | None = None

    @classmethod
    def of(cls, conv: nn.Conv2d) -> PackedConv2d:
        """One with the parameters of `conv`, whose padding is of zeros."""
        assert type(conv) is nn.Conv2d, type(conv)
        packed = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
            device="meta",
        ).train(conv.training)
        packed.weight, packed.bias = conv.weight, conv.bias
        return packed

    def forward(self, x: Tensor) -> Tensor:
        if not self._packs(x):
            return super().forward(x)
        shape = (list(self.padding), list(self.stride), list(self.dilation), self.groups)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self._kernel(x), self.bias, *shape, "none", [], "")
        return y

    def _packs(self, x: Tensor) -> bool:
        plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        learning = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        program = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        watched = _get_current_dispatch_mode() is not None or torch.is_autocast_enabled("cpu")
        if not plain or learning or program or watched or x.dim() != 4 or not x.numel():
            return False
        # Neither has types.
        return bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)  # type: ignore[no-untyped-call]

    def _kernel(self, x: Tensor) -> Tensor:
        """The kernel in the order for maps of x's shape."""
        weight = self.weight.detach()
        key = (x.shape, weight.data_ptr(), None if weight.is_inference() else weight._version)
        if self._packed is None or self._packed[0] != key:
            shape = (list(self.padding), list(self.stride), list(self.dilation), self.groups)
            packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *shape, list(x.shape))
            self._packed = (key, packed)
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def pack(model: nn.Module) -> None:
    """Puts packed convolutions in the place of a model's plain ones of large kernels, with the same parameters."""
    for path, conv in list(model.named_modules()):
        if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        if conv.weight.numel() >= WORTH:
            model.set_submodule(path, PackedConv2d.of(conv))
