"""The networks that are compared, by the names that cases give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision import models

import sapool
from benchmarks import published
from benchmarks.cases import Case
from benchmarks.former import former
from benchmarks.plain import plain
from sapool.model import CompiledModel


def packed(model: CompiledModel) -> nn.Module:
    """`-O` as `sapoolc bench` times it."""
    return sapool.optimize(model, packed=True)


_MADE: dict[str, Callable[[CompiledModel], nn.Module]] = {
    "literal": plain,
    "former": former,
    "compiled": lambda model: model,
    "optimized": sapool.optimize,
    "packed": packed,
}


def build(name: str, case: Case, factory: published.Factory | None = None) -> nn.Module:
    """A subject by name; `factory` makes those that are called `published`."""
    torch.manual_seed(0)
    if name == "torchvision":
        return models.resnet18()  # type: ignore[no-any-return]
    if name == "published":
        assert factory is not None
        return published.network(factory, case.architecture)
    if name == "paper":
        return sapool.compile(case.architecture, image_size=case.size, dialect="paper")
    if "-" in name:
        return sapool.compile(name, image_size=case.size)
    return _MADE[name](sapool.compile(case.architecture, image_size=case.size))
