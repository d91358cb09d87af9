"""What `timm.create_model` builds of an architecture."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from sapool.compiler import compile
from sapool.errors import InputError
from sapool.passes.measure import FeatureInfo
from sapool.timm.classifier import TimmClassifier
from sapool.timm.features import TimmFeatures

# What timm's builders take that says nothing here, where it has the value at which it does nothing.
_IDLE = {"drop_rate": 0, "drop_path_rate": 0, "drop_block_rate": 0, "output_stride": 32}
_UNUSED = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "feature_cfg", "pretrained_strict")


def create_model(
    text: str,
    *,
    pretrained: bool = False,
    num_classes: int = 1000,
    in_chans: int = 3,
    features_only: bool = False,
    out_indices: Collection[int] | int | None = None,
    global_pool: str | None = None,
    img_size: int | tuple[int, int] = 224,
    **others: Any,
) -> TimmClassifier | TimmFeatures:
    """What `timm.create_model` gives for an architecture; its arguments are timm's.

    Args:
        text: the architecture.
        pretrained: begin with the published weights of the unmodified backbone.
        num_classes: outputs; 0 for pooled features without a classifier.
        in_chans: channels of the images.
        features_only: return maps, the deepest of each size, as timm's models do.
        out_indices: which of them, from 0; negative ones from the end, a number for the last so many, None for all.
        global_pool: the network's own where it is None or `avg`; "" for the last map, with `num_classes=0`.
        img_size: side, or (height, width), of the images that are planned for; others work too.
        others: settings of timm that compiled networks don't have, at the values where they do nothing.

    Raises:
        InputError: an argument that can't be so.
    """
    for name, value in others.items():
        if name not in _UNUSED and value not in (None, False, _IDLE.get(name)):
            raise InputError(f"{name}: compiled networks have no such setting; leave it out")
    options: dict[str, Any] = {"in_chans": in_chans, "image_size": img_size}
    weights = "DEFAULT" if pretrained else None
    if features_only:
        return _features(text, weights, out_indices, options)
    made = compile(text, num_classes=num_classes or 1000, weights=weights, **options)
    model = TimmClassifier.of(made, made.origin)
    if num_classes == 0 or global_pool == "":
        model.reset_classifier(num_classes, global_pool)
    return model


def _features(text: str, weights: str | None, wanted: Collection[int] | int | None, options: Any) -> TimmFeatures:
    with torch.device("meta"):
        whole = compile(text, features_only=True, **options)
    every = whole.feature_info
    deepest = {feature.reduction: place for place, feature in enumerate(every) if feature.name != "head"}
    places = [deepest[reduction] for reduction in sorted(deepest)]
    if isinstance(wanted, int):  # the last so many, as in timm
        wanted = range(-wanted, 0)
    indices = list(range(len(places)) if wanted is None else wanted)
    for index in indices:
        if not -len(places) <= index < len(places):
            sizes = ", ".join(f"{n}: 1/{every[place].reduction}" for n, place in enumerate(places))
            raise InputError(f"out_indices: {whole.plan.architecture} has the maps {sizes}, not {index}")
    numbers = [index % len(places) for index in indices]
    made = compile(text, features_only=True, out_indices=[places[n] for n in numbers], weights=weights, **options)
    return TimmFeatures.with_info(made, FeatureInfo((every[place] for place in places), numbers))
