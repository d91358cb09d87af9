"""What the stand-in for mmcv's extension has, and what it says where it hasn't."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NoReturn


class MissingOperatorError(NotImplementedError):
    """An operator of mmcv's extension that neither torchvision nor this stand-in has."""


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


def missing(name: str) -> NoReturn:
    """Raises the error of an operator that isn't served."""
    raise MissingOperatorError(
        f"mmcv's operator {name} needs mmcv's compiled extension, which isn't installed, and torchvision has no such "
        f"operator. Served without it: {', '.join(SERVED)}. Use a model without {name}, or build mmcv from source."
    )


def absent(name: str) -> Callable[..., NoReturn]:
    """A function of that name that raises the error when it is called."""

    def operator(*arguments: Any, **options: Any) -> NoReturn:
        missing(name.removesuffix("_forward").removesuffix("_backward"))

    operator.__name__ = name
    return operator
