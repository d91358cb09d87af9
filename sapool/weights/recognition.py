"""Whose weights these are: the network whose tensors have these names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sapool.catalogue.backbones import BACKBONES, OWN
from sapool.catalogue.builders import build
from sapool.errors import InputError

_CLASSIFIER = 2
"""Tensors that may have other shapes: the weight and the bias that make the classes."""

_CLASSES = 1000


def other_network(weights: Mapping[str, Tensor], backbone: str) -> str | None:
    """The network of the catalogue that a state dict is of, where that isn't the one that was asked for.

    Names and shapes tell, of all tensors but the classifier's and counters'. Builds networks without memory for that,
    a second in all, so ask only when weights don't fit.

    Args:
        weights: a state dict.
        backbone: the one that they were meant for: a name of the catalogue, `timm:NAME`, or the caller's own.
    """
    for name in dict.fromkeys((backbone, *BACKBONES)):
        if name != OWN and _is_of(weights, name):
            return name if name != backbone else None
    return None


def _is_of(weights: Mapping[str, Tensor], name: str) -> bool:
    try:
        with torch.device("meta"):
            own = build(name, _CLASSES).state_dict()
    except InputError:  # an extra isn't installed
        return False
    counted = _counted(own)
    if counted != _counted(weights):
        return False
    return len([key for key in counted if own[key].shape != weights[key].shape]) <= _CLASSIFIER


def _counted(keys: Iterable[str]) -> set[str]:
    """Without batch norm's counters, which older files don't have."""
    return {key for key in keys if not key.endswith("num_batches_tracked")}


def folded(keys: Iterable[str], within: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Keys in as few words as say them: `layer1.2.*` where everything there is among them.

    Args:
        keys: some of a state dict's keys.
        within: all of them.

    Returns:
        Each word with the keys that it stands for, in order of the first.
    """
    keys = list(keys)
    chosen = set(keys)
    # Every way to begin one of the others.
    begun = {prefix for key in within if key not in chosen for prefix in _prefixes(key)}
    words: dict[str, list[str]] = {}
    for key in keys:
        whole = next((prefix for prefix in _prefixes(key) if prefix not in begun), None)
        words.setdefault(key if whole is None else f"{whole}.*", []).append(key)
    return list(words.items())


def _prefixes(key: str) -> list[str]:
    """The modules that a key is in, outermost first; of `a.b.c` not `a`, which would say too little."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(min(2, len(parts) - 1), len(parts)) if length]
