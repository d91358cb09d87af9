"""Some training images of a recipe, as its network is shown them when it is evaluated."""

from __future__ import annotations

import torch
from torch import Tensor

from sapool.classify.data import transforms
from sapool.classify.data.sources import open_data
from sapool.recipes.settings import Recipe


def training_images(recipe: Recipe, count: int, seed: int = 0) -> Tensor:
    """Normalised images, drawn without regard to their classes: float32 (count or all there are, C, H, W).

    Raises:
        InputError: the data isn't there.
    """
    source = open_data(recipe.data).train
    crop, normalise = transforms.evaluation(recipe.data), transforms.normalise(recipe.data)
    order = torch.randperm(len(source.labels), generator=torch.Generator().manual_seed(seed))
    images: Tensor = normalise(torch.stack([crop(source.image(index)) for index in order[:count].tolist()]))
    return images
