"""Focal loss (Lin et al., ICCV 2017), as mmcv's Python code calls it."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F


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
