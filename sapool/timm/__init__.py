"""Compiled networks as timm's models: `import sapool.timm`, then `timm.create_model("sapool-resnet18-lip-1222")`.

So they open whatever builds on timm: segmentation_models_pytorch (`tu-sapool-...`), transformers' `TimmBackbone`, and
detectors and trainers that ask timm for a backbone.

A name is `sapool-` and an architecture. timm gives `:` and `.` meanings of its own, so they are spelled `_` and `__`:
`timm:resnet10t` is `sapool-timm_resnet10t-lip-2222`; `spelled` does that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from sapool.catalogue.builders import import_timm
from sapool.timm.building import create_model
from sapool.timm.classifier import TimmClassifier
from sapool.timm.features import TimmFeatures
from sapool.timm.names import PREFIX, meant, spelled

__all__ = ["PREFIX", "TimmClassifier", "TimmFeatures", "create_model", "spelled"]


class _Entrypoints(dict[str, Any]):
    """timm's table of models, which has every architecture's name too."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and meant(name) is not None)

    def __missing__(self, name: str) -> Callable[..., nn.Module]:
        text = meant(name)
        if text is None:
            raise KeyError(name)
        return partial(create_model, text)


def register() -> None:
    """Makes timm know every architecture; importing this module does it."""
    registry: Any = import_module(f"{import_timm().__name__}.models._registry")
    if not isinstance(registry._model_entrypoints, _Entrypoints):
        registry._model_entrypoints = _Entrypoints(registry._model_entrypoints)


register()
