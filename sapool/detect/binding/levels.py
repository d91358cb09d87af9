"""The levels that a detector's heads see: which maps of the network feed the neck, and what the neck makes of them.

Nothing is computed from kernel sizes: network and neck are built without data and measured.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from sapool.detect.binding.families import NECKS, REFINERS, Neck
from sapool.errors import InputError, did_you_mean
from sapool.model import CompiledModel
from sapool.passes.measure import Feature

Number = int | float


@dataclass(frozen=True)
class Level:
    """A map that heads see.

    Attributes:
        channels: C.
        stride: (width, height) of one of its cells in pixels of the image.
    """

    channels: int
    stride: tuple[Number, Number]


def count_inputs(model: ConfigDict) -> int:
    """How many maps a base's neck (or, without one, its head) takes."""
    necks = necks_of(model)
    if not necks:
        indices = model.backbone.get("out_indices", (0,))
        return 1 if isinstance(indices, int) else len(indices)
    channels = necks[0].get("in_channels")
    return 1 if isinstance(channels, int) else len(channels)


def necks_of(model: ConfigDict) -> list[ConfigDict]:
    """A base's necks in order, all of them known.

    Raises:
        InputError: one isn't known; names it.
    """
    given = model.get("neck") or []
    necks = list(given) if isinstance(given, (list, tuple)) else [given]
    for position, neck in enumerate(necks):
        known = REFINERS if position else NECKS
        if neck.type not in known:
            raise InputError(
                f"the neck {neck.type} isn't one whose numbers the binder knows."
                + did_you_mean(neck.type, known)
                + f" Known here: {', '.join(sorted(known))}."
            )
    return necks


def bind_necks(necks: Sequence[ConfigDict], features: Sequence[Feature], text: str) -> None:
    """Tells the first neck the channels of the maps that feed it.

    Raises:
        InputError: the neck needs maps that halve from one to the next.
    """
    if not necks:
        return
    neck, rule = necks[0], NECKS[necks[0].type]
    _check_halving(neck.type, rule, features, text)
    channels = [feature.channels for feature in features]
    if rule.follows:
        neck.out_channels = [*channels, *neck.out_channels[len(channels) :]]
    ordered = channels[::-1] if rule.deepest_first else channels
    neck.in_channels = ordered[0] if isinstance(neck.in_channels, int) else ordered


def _check_halving(name: str, rule: Neck, features: Sequence[Feature], text: str) -> None:
    reductions = [feature.reduction for feature in features]
    if rule.halving and any(2 * a != b for a, b in pairwise(reductions)):
        raise InputError(
            f"detector.out_indices: the neck {name} enlarges each map by 2 to add it to the one before, and the maps "
            f"of {text} that feed it have reductions {', '.join(map(str, reductions))}; choose others, or another base"
        )


def measure_levels(
    network: CompiledModel, indices: Sequence[int], necks: Sequence[ConfigDict], size: tuple[int, int]
) -> list[Level]:
    """The levels that the necks put out for images of a size (width, height), in their order.

    Args:
        network: on the meta device, returning every map.
        indices: those that feed the first neck.
        necks: as bound.
        size: of the images.
    """
    with torch.device("meta"):
        built = [MODELS.build(copy.deepcopy(neck)) for neck in necks]
    with torch.no_grad():
        channels = network.plan.options.in_chans
        every = network.eval()(torch.empty(1, channels, size[1], size[0], device="meta"))
        maps = tuple(every[index] for index in indices)
        for neck in built:
            maps = neck.to("meta").eval()(maps)
    levels = []
    for level in maps:
        height, width = level.shape[-2:]
        levels.append(Level(int(level.shape[1]), (_quotient(size[0], width), _quotient(size[1], height))))
    return levels


def _quotient(pixels: int, cells: int) -> Number:
    return pixels // cells if pixels % cells == 0 else pixels / cells
