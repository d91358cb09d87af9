"""The published transforms, as torchvision's. All work on uint8 tensors (C, H, W), so every reader gives the same."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from sapool.catalogue.data_sets import DATA_SETS
from sapool.recipes.inputs import Sides
from sapool.recipes.settings import Data


def training(data: Data) -> nn.Module:
    """What a training image goes through, one at a time and at random; uint8 in, uint8 (C, H, W) out."""
    size, own = data.sides, data.image_size == DATA_SETS[data.name].size
    height, width = size
    # A square's crops are from 3:4 to 4:3, and those of others as much longer as they are.
    crop = v2.RandomResizedCrop(size, ratio=(3 / 4 * width / height, 4 / 3 * width / height))
    steps: list[nn.Module] = []
    match data.augment:
        case "padded_crop" if data.name.startswith("cifar") and not own:
            # The published code crops CIFAR this way at any but its own size.
            steps += [v2.Resize(size), crop]
        case "padded_crop":
            steps += [v2.Resize(size), v2.RandomCrop(size, padding=[width // 8, height // 8])]
        case "resized_crop":
            # With a size that isn't the data set's own the published code resizes first.
            steps += [*([] if own else [_covering(size)]), crop]
        case "none":
            steps += evaluation_steps(data)
    if data.flip:
        steps.append(v2.RandomHorizontalFlip())
    if data.randaugment:
        steps.append(v2.RandAugment(data.randaugment, data.magnitude))
    return cast(nn.Module, v2.Compose(steps))


def evaluation(data: Data) -> nn.Module:
    """What an image goes through otherwise, always the same; uint8 in, uint8 (C, H, W) out."""
    return cast(nn.Module, v2.Compose(evaluation_steps(data)))


def evaluation_steps(data: Data) -> list[nn.Module]:
    """Resize (squeezing packed data sets' images, keeping others' proportions) and centre crop."""
    height, width = data.sides
    if data.augment == "resized_crop":
        whole = round(height / data.crop_ratio), round(width / data.crop_ratio)
        return [_covering(whole), v2.CenterCrop((height, width))]
    return [v2.Resize((height, width))]


def _covering(size: Sides) -> nn.Module:
    """Resizes images in proportion, to the smallest that has a rectangle of that height and width in it."""
    height, width = size
    return v2.Resize(height) if height == width else Resize(size)


class Resize(nn.Module):
    """Resizes (C, H, W) in proportion, to the smallest that has a rectangle of a height and width in it."""

    def __init__(self, size: Sides) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        own = image.shape[-2:]
        factor = max(wanted / side for wanted, side in zip(self.size, own, strict=True))
        sides = [max(round(side * factor), wanted) for wanted, side in zip(self.size, own, strict=True)]
        resized: Tensor = TF.resize(image, sides)
        return resized


def normalise(data: Data) -> nn.Module:
    """uint8 (N, C, H, W) to float32 of about zero mean and unit deviation; on whole batches."""
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
