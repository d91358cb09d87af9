"""The published transforms, as torchvision's. All work on uint8 tensors (C, H, W), so every reader gives the same."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torchvision.transforms import v2

from sapool.catalogue.data_sets import DATA_SETS
from sapool.recipes.settings import Data


def training(data: Data) -> nn.Module:
    """What a training image goes through, one at a time and at random; uint8 in, uint8 (3, S, S) out."""
    size, entry = data.image_size, DATA_SETS[data.name]
    steps: list[nn.Module] = []
    match data.augment:
        case "padded_crop" if data.name.startswith("cifar") and size != entry.size:
            # The published code crops CIFAR this way at any but its own size.
            steps += [v2.Resize((size, size)), v2.RandomResizedCrop(size)]
        case "padded_crop":
            steps += [v2.Resize((size, size)), v2.RandomCrop(size, padding=size // 8)]
        case "resized_crop":
            # With a size that isn't the data set's own the published code resizes first.
            first = [] if size == entry.size else [v2.Resize(size)]
            steps += [*first, v2.RandomResizedCrop(size)]
        case "none":
            steps += evaluation_steps(data)
    if data.flip:
        steps.append(v2.RandomHorizontalFlip())
    if data.randaugment:
        steps.append(v2.RandAugment(data.randaugment, data.magnitude))
    return cast(nn.Module, v2.Compose(steps))


def evaluation(data: Data) -> nn.Module:
    """What an image goes through otherwise, always the same; uint8 in, uint8 (3, S, S) out."""
    return cast(nn.Module, v2.Compose(evaluation_steps(data)))


def evaluation_steps(data: Data) -> list[nn.Module]:
    """Resize (squeezing square data sets' images, keeping others' proportions) and centre crop."""
    size = data.image_size
    if data.augment == "resized_crop":
        return [v2.Resize(round(size / data.crop_ratio)), v2.CenterCrop(size)]
    return [v2.Resize((size, size))]


def normalise(data: Data) -> nn.Module:
    """uint8 (N, 3, S, S) to float32 of about zero mean and unit deviation; on whole batches."""
    steps = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(data.mean), list(data.std))]
    return cast(nn.Module, v2.Compose(steps))


def mixing(data: Data, classes: int) -> nn.Module | None:
    """MixUp, CutMix, one of them at random, or None; (images, labels) to (images, class probabilities)."""
    chosen: list[nn.Module] = []
    if data.mixup:
        chosen.append(v2.MixUp(alpha=data.mixup, num_classes=classes))
    if data.cutmix:
        chosen.append(v2.CutMix(alpha=data.cutmix, num_classes=classes))
    return v2.RandomChoice(chosen) if len(chosen) > 1 else chosen[0] if chosen else None
