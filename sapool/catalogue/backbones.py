"""The catalogue of backbones. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sapool.catalogue.backbone import PLACES, Backbone, Pools
from sapool.catalogue.registry import Registry
from sapool.catalogue.torchvision import TORCHVISION

__all__ = [
    "BACKBONES",
    "OWN",
    "PLACES",
    "PUBLISHED",
    "TIMM",
    "Backbone",
    "Pools",
    "has_paper_dialect",
    "is_mobilenet_v2",
    "register_backbone",
]

F = TypeVar("F", bound=Callable[..., Any])

TIMM = "timm:"
"""What a backbone of timm begins with."""

OWN = "module"
"""The word for a backbone that the caller brings."""

BACKBONES: Registry[Backbone] = Registry(
    "backbone", decorator="register_backbone", entry=Backbone, group="sapool.backbones", given=TORCHVISION
)
"""Every backbone by its name, in the order of listings."""

PUBLISHED = tuple(entry.name for entry in TORCHVISION if entry.paper is not None)
"""The backbones of the published code."""

_WIDTHS = f"{TIMM}mobilenetv2_"


def has_paper_dialect(name: str) -> bool:
    """Whether the published code's way is defined for a backbone: its own, and MobileNetV2 in timm's other widths."""
    return name in PUBLISHED or name.startswith(_WIDTHS)


def is_mobilenet_v2(name: str) -> bool:
    """Whether a backbone is a MobileNetV2, of whatever width."""
    return name.startswith(_WIDTHS) or (name in BACKBONES and BACKBONES[name].builder == "mobilenet_v2")


def register_backbone(name: str, **fields: Any) -> Callable[[F], F]:
    """Declares a backbone: decorates a function that builds it, given `num_classes`.

    Without `stages` they are found in its graph.

    Args:
        name: how architecture strings spell it.
        fields: attributes of `Backbone`, such as `stages`, `strides` and `pools`.

    Raises:
        ValueError: the name is taken, or can't be one.
    """
    return BACKBONES.register(name, **fields)
