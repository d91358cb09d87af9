"""Images from files, as a run's model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import default_loader
from torchvision.transforms.v2 import functional as TF

from sapool.classify.data import transforms
from sapool.errors import InputError
from sapool.recipes.settings import Data


def read_pictures(paths: Sequence[str | Path], data: Data) -> tuple[Tensor, Tensor]:
    """Images resized and cropped as for testing.

    Returns:
        uint8 (N, 3, S, S) to look at, and the same normalised, float32, for the model.

    Raises:
        InputError: a file can't be read as an image.
    """
    crop = transforms.evaluation(data)
    seen = torch.stack([crop(_read(path)) for path in paths])
    return seen, transforms.normalise(data)(seen)


def _read(path: str | Path) -> Tensor:
    try:
        image: Tensor = TF.pil_to_tensor(default_loader(str(path)))
    except FileNotFoundError:
        raise InputError(f"no such image: {path}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} can't be read as an image: {error}") from None
    return image
