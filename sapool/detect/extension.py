"""A stand-in for `mmcv._ext`, the compiled extension of mmcv, on torchvision's operators.

mmcv's Python code calls the extension by name, hands it the tensors to fill, and takes care of autograd itself. The
functions here have the names and arguments that it calls them with, on the CPU and on GPUs. What torchvision can't
serve is missing only when it is called: importing mmcv and building models needs no more than the names.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import MappingProxyType, ModuleType
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

NAME = "mmcv._ext"


class MissingOperatorError(NotImplementedError):
    """An operator of mmcv's extension that neither torchvision nor this stand-in has."""


# Suppression of overlapping boxes. mmcv's `offset` is 1 where the last pixel of a box belongs to it.


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes (N, 4) that stay, best score first."""
    return torchvision.ops.nms(_closed(boxes, offset), scores, iou_threshold)  # type: ignore[no-any-return]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int = 0,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017, algorithm 1): overlapping boxes lose score in place of being dropped.

    Args:
        boxes, scores: (N, 4) and (N,).
        dets: (N, 5); its first rows are filled with the boxes that stay and their new scores.
        iou_threshold: from which on boxes overlap; the Gaussian method has none.
        sigma: of the Gaussian method.
        min_score: below which a box is dropped.
        method: 0 drops overlapping boxes, 1 scales by 1 - IoU, 2 by exp(-IoU² / sigma).
        offset: as everywhere here.

    Returns:
        Their indices, in the order in which they were taken.
    """
    closed, left = _closed(boxes, offset), torch.arange(len(boxes), device=boxes.device)
    remaining, kept = scores.clone(), 0
    indices = torch.empty_like(left)
    while len(left):
        best = int(remaining.argmax())
        index = left[best]
        dets[kept, :4], dets[kept, 4], indices[kept] = boxes[index], remaining[best], index
        kept += 1
        overlap = torchvision.ops.box_iou(closed[index][None], closed[left])[0]
        if method == 0:
            weight = (overlap < iou_threshold).to(remaining)
        elif method == 1:
            weight = torch.where(overlap < iou_threshold, 1.0, 1 - overlap)
        else:
            weight = torch.exp(-(overlap**2) / sigma)
        remaining = remaining * weight
        stays = remaining >= min_score
        stays[best] = False
        left, remaining = left[stays], remaining[stays]
    return indices[:kept]


def _closed(boxes: Tensor, offset: int) -> Tensor:
    """Boxes whose width is x2 - x1."""
    return boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes


# Regions of interest: rois are (K, 5), the index of the image and x1, y1, x2, y2.

_AVERAGE = 1


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign with averages, (N, C, H, W) into (K, C, aligned_height, aligned_width)."""
    if pool_mode != _AVERAGE:
        _missing("roi_align with pool_mode='max'")
    size = (aligned_height, aligned_width)
    output.copy_(torch.ops.torchvision.roi_align(input, rois, spatial_scale, *size, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """The gradient of `roi_align_forward` with respect to its input."""
    size = (aligned_height, aligned_width)
    backward = torch.ops.torchvision._roi_align_backward
    grad_input.copy_(backward(grad_output, rois, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned))


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoIPool as Fast R-CNN (Girshick, ICCV 2015) and torchvision have it: regions are rounded to whole pixels.

    mmcv's CUDA kernel doesn't round them, and takes the pixel behind a region into it.
    """
    pooled, places = torch.ops.torchvision.roi_pool(input, rois, spatial_scale, pooled_height, pooled_width)
    output.copy_(pooled)
    argmax.copy_(places)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """The gradient of `roi_pool_forward` with respect to its input."""
    size = (pooled_height, pooled_width)
    backward = torch.ops.torchvision._roi_pool_backward
    grad_input.copy_(backward(grad_output, rois, argmax, spatial_scale, *size, *grad_input.shape))


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


# Focal loss (Lin et al., ICCV 2017).


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Each logit's loss, (N, C). Targets (N,) are classes, C for the background; weights are empty or one a class."""
    output.copy_(_focal(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """The gradient of the losses' sum with respect to the logits."""
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        loss = _focal(logits, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


def _focal(input: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    classes = input.shape[1]
    one_hot = F.one_hot(target, classes + 1)[:, :classes].to(input)
    loss: Tensor = torchvision.ops.sigmoid_focal_loss(input, one_hot, alpha, gamma)
    # A weight belongs to a row's class; the background has none.
    return loss if weight.numel() == 0 else loss * torch.cat([weight, weight.new_ones(1)])[target][:, None]


# What mmcv reports of the extension.


def get_compiler_version() -> str:
    """What stands for a compiler in mmengine's report of the environment."""
    return f"none: torchvision {torchvision.__version__} serves mmcv's operators"


def get_compiling_cuda_version() -> str:
    """The CUDA version that torch, and with it torchvision, was built for."""
    return str(torch.version.cuda or "none")


SERVED = MappingProxyType(
    {
        "nms": "torchvision",
        "softnms": "PyTorch",
        "roi_align": "torchvision",
        "roi_pool": "torchvision",
        "deform_conv": "torchvision",
        "modulated_deform_conv": "torchvision",
        "sigmoid_focal_loss": "torchvision",
    }
)
"""The operators that the stand-in has, and what computes them."""


def _missing(name: str) -> NoReturn:
    raise MissingOperatorError(
        f"mmcv's operator {name} needs mmcv's compiled extension, which isn't installed, and torchvision has no such "
        f"operator. Served without it: {', '.join(SERVED)}. Use a model without {name}, or build mmcv from source."
    )


def _absent(name: str) -> Callable[..., NoReturn]:
    def operator(*arguments: Any, **options: Any) -> NoReturn:
        _missing(name.removesuffix("_forward").removesuffix("_backward"))

    operator.__name__ = name
    return operator


# Installation

_OPERATORS: tuple[Callable[..., Any], ...] = (
    nms,
    softnms,
    roi_align_forward,
    roi_align_backward,
    roi_pool_forward,
    roi_pool_backward,
    deform_conv_forward,
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    modulated_deform_conv_forward,
    modulated_deform_conv_backward,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    get_compiler_version,
    get_compiling_cuda_version,
)


def install() -> bool:
    """Puts the stand-in in the place of `mmcv._ext`, where no compiled one can be imported.

    Returns:
        Whether the stand-in serves mmcv's operators from now on.
    """
    if NAME not in sys.modules:
        try:
            importlib.import_module(NAME)
        except ImportError:  # not there, or built for another torch
            sys.modules[NAME] = _module()
            # As it would be after `import mmcv._ext`.
            sys.modules["mmcv"].__dict__["_ext"] = sys.modules[NAME]
    return is_stand_in(sys.modules[NAME])


def sources() -> dict[str, str]:
    """Where mmcv's operators come from here: from a compiled extension, where there is one, or from the stand-in."""
    if not install():
        return {"all": "mmcv's compiled extension"}
    return {**SERVED, "every other": "missing: calling one ends in an error that names it"}


def is_stand_in(module: ModuleType) -> bool:
    """Whether a module is what `install` makes."""
    return getattr(module, "nms", None) is nms


def _module() -> ModuleType:
    # mmengine's report of the environment looks for a spec.
    module = module_from_spec(ModuleSpec(NAME, None, origin=__file__))

    def absent(name: str) -> Callable[..., NoReturn]:
        if name.startswith("_"):
            raise AttributeError(f"module '{NAME}' has no attribute '{name}'")
        return _absent(name)

    module.__dict__.update({operator.__name__: operator for operator in _OPERATORS}, __getattr__=absent)
    return module
