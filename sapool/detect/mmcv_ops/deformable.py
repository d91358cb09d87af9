"""Deformable convolutions, as mmcv's Python code calls them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Deformable convolution (Dai et al., ICCV 2017) and its modulated form (Zhu et al., CVPR 2019).


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **geometry: int
) -> None:
    """Deformable convolution without bias; `columns` and `ones` are buffers that torchvision doesn't need."""
    mask, bias = _neutral(input, weight)
    output.copy_(torch.ops.torchvision.deform_conv2d(input, weight, offset, mask, bias, *_plain(geometry), False))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Gradients of `deform_conv_forward` with respect to its input and its offsets."""
    gradients = _deform_backward(grad_output, input, weight, offset, geometry)
    grad_input.copy_(gradients[0])
    grad_offset.copy_(gradients[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float = 1.0,
    **geometry: int,
) -> None:
    """Adds the gradient of `deform_conv_forward` with respect to its weight, times `scale`."""
    # The gradient with respect to a weight doesn't depend on the weight.
    grad_weight += scale * _deform_backward(grad_output, input, grad_weight, offset, geometry)[1]


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Modulated deformable convolution."""
    bias = bias if with_bias else _neutral(input, weight)[1]
    output.copy_(torch.ops.torchvision.deform_conv2d(input, weight, offset, mask, bias, *_modulated(geometry), True))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Gradients of `modulated_deform_conv_forward` with respect to everything it was given."""
    backward = torch.ops.torchvision._deform_conv2d_backward
    used = bias if with_bias else _neutral(input, weight)[1]
    gradients = backward(grad_output, input, weight, offset, mask, used, *_modulated(geometry), True)
    targets = (grad_input, grad_weight, grad_offset, grad_mask, *((grad_bias,) if with_bias else ()))
    for target, gradient in zip(targets, gradients, strict=False):
        target.copy_(gradient)


def _deform_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, geometry: dict[str, int]
) -> Sequence[Tensor]:
    """Gradients with respect to input, weight, offset, mask and bias."""
    mask, bias = _neutral(input, weight)
    backward = torch.ops.torchvision._deform_conv2d_backward
    gradients: Sequence[Tensor] = backward(grad_output, input, weight, offset, mask, bias, *_plain(geometry), False)
    return gradients


def _neutral(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The mask and the bias that torchvision wants where there is none."""
    return input.new_zeros((input.shape[0], 1)), input.new_zeros(weight.shape[0])


def _plain(geometry: dict[str, int]) -> list[int]:
    names = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
    return [geometry[name] for name in names]


def _modulated(geometry: dict[str, int]) -> list[int]:
    names = ("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w", "group", "deformable_group")
    return [geometry[name] for name in names]
