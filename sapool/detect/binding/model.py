"""The binder: puts a compiled network into a base's detector, and sets every number that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from sapool.boxes.maps import choose_outputs
from sapool.detect.binding.families import BOX_HEADS, EXTRACTORS, FINEST_SCALE, HEADS, ROI_HEADS, Head
from sapool.detect.binding.grey import KNOWN, GreyDataPreprocessor
from sapool.detect.binding.levels import (
    Level,
    Number,
    bind_necks,
    count_inputs,
    measure_levels,
    necks_of,
)
from sapool.errors import InputError, did_you_mean
from sapool.passes.measure import Feature
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.networks import compile_network


@dataclass(frozen=True)
class Binding:
    """What was bound.

    Attributes:
        features: the network's maps that feed the neck.
        indices: their numbers.
        levels: what the heads see, in their order.
        heads: (place, type, family) of each dense head.
        divisor: images are padded to multiples of this many pixels.
    """

    features: tuple[Feature, ...]
    indices: tuple[int, ...]
    levels: tuple[Level, ...]
    heads: tuple[tuple[str, str, str], ...]
    divisor: int


def check_parts(model: ConfigDict) -> None:
    """Refuses a detector whose necks and heads the binder doesn't know.

    Raises:
        InputError: one isn't known; names it.
    """
    necks_of(model)
    for _ in _dense_heads(model):
        pass


def bind_model(config: Config, recipe: DetectionRecipe, classes: int, size: tuple[int, int], growth: float) -> Binding:
    """Puts the recipe's network into a config's model.

    Args:
        config: the base, changed in place.
        recipe: names the architecture and the outputs.
        classes: how many.
        size: width and height of images, as the recipe wants them.
        growth: how much larger they are than the base's.

    Raises:
        InputError: the architecture can't feed this detector, or the detector has a part that the binder doesn't know.
    """
    model = config.model
    dense = list(_dense_heads(model))
    necks = necks_of(model)
    with torch.device("meta"):
        network = compile_network(recipe, features_only=True, out_indices=None)
    indices = choose_outputs(
        network.feature_info,
        count_inputs(model),
        recipe.detector.out_indices,
        recipe.architecture,
        stages_only=recipe.detector.stages_only,
    )
    features = tuple(network.feature_info[index] for index in indices)
    bind_necks(necks, features, recipe.architecture)
    if recipe.detector.neck_channels is not None:
        _choose_channels(necks, "neck_channels", recipe.detector.neck_channels)
    if recipe.detector.head_channels is not None:
        _choose_channels([head for _, head in dense], "head_channels", recipe.detector.head_channels)
    # Images are padded to whole cells of the deepest map: poolings would drop a last part of one.
    divisor = max(feature.reduction for feature in features)
    fixed = any(HEADS[head.type].fixed for _, head in dense)
    measured = (_up(size[0], divisor), _up(size[1], divisor)) if fixed else _even(divisor, necks)
    levels = measure_levels(network, indices, necks, measured)
    for place, head in dense:
        _bind_head(head, place, levels, growth)
    _bind_regions(model, levels)
    _set_classes(model, classes)
    model.backbone = _backbone(recipe, indices)
    _bind_preprocessor(model.data_preprocessor, recipe, divisor)
    # Weights of the base as a whole no longer fit; those of its backbone went with it.
    for name in ("init_cfg", "pretrained"):
        model.pop(name, None)
    heads = tuple((place, str(head.type), HEADS[head.type].family) for place, head in dense)
    return Binding(features, indices, tuple(levels), heads, divisor)


def _bind_preprocessor(part: ConfigDict, recipe: DetectionRecipe, divisor: int) -> None:
    """Normalisation, padding, and the order of colours; one that makes images grey where the network takes grey ones.

    Raises:
        InputError: the base has a preprocessor whose images can't be made grey.
    """
    coloured = recipe.model.in_chans > 1
    if not coloured:
        if part.type not in KNOWN:
            raise InputError(f"model.in_chans: the base's {part.type} reads coloured images; choose another base")
        part.type = GreyDataPreprocessor.__name__
    part.update(
        mean=in_bytes(recipe.data.mean),
        std=in_bytes(recipe.data.std),
        bgr_to_rgb=coloured,
        rgb_to_bgr=False,
        pad_size_divisor=divisor,
    )


def in_bytes(values: Sequence[float]) -> list[float]:
    """Means or deviations of pixels between 0 and 1, for pixels that are bytes."""
    return [round(255 * value, 4) for value in values]


def _choose_channels(parts: Sequence[ConfigDict], setting: str, channels: Sequence[int]) -> None:
    """Gives the first part other channels than the base does.

    Raises:
        InputError: it has no list of as many.
    """
    given = parts[0].get("out_channels") if parts else None
    if not isinstance(given, (list, tuple)):
        what = f"{parts[0].type} has" if parts else "the base has"
        raise InputError(f"detector.{setting}: {what} no channels to choose for each level")
    if len(given) != len(channels):
        raise InputError(f"detector.{setting}: {parts[0].type} takes {len(given)} numbers, not {len(channels)}")
    parts[0].out_channels = list(channels)


def _up(pixels: int, divisor: int) -> int:
    return -(-pixels // divisor) * divisor


def _even(divisor: int, necks: Sequence[ConfigDict]) -> tuple[int, int]:
    """An image that every level divides: levels behind the network's deepest one halve at most once each."""
    extra = max((int(neck.get("num_outs", 0)) for neck in necks), default=0)
    side = divisor * 2 ** max(extra, 1)
    return side, side


def _backbone(recipe: DetectionRecipe, indices: tuple[int, ...]) -> ConfigDict:
    bound = ConfigDict(
        type="SapoolBackbone",
        arch=recipe.architecture,
        out_indices=indices,
        frozen_stages=recipe.detector.frozen_stages,
        norm_eval=recipe.detector.norm_eval,
        dialect=recipe.dialect,
    )
    if recipe.model.in_chans != 3:
        bound.in_chans = recipe.model.in_chans
    if recipe.plan is not None:
        bound.plan = recipe.plan
    if recipe.weights is not None:
        bound.init_cfg = ConfigDict(type="Pretrained", checkpoint=recipe.weights)
    return bound


def _dense_heads(model: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Heads that see the levels themselves. Everything else that calls itself a head must be a RoI head's part."""
    for name in model:
        if name == "roi_head" or not name.endswith("head"):
            continue
        if name not in ("bbox_head", "rpn_head") or model[name].type not in HEADS:
            _refuse("head", str(model[name].get("type", name)), HEADS)
        yield name, model[name]


def _refuse(what: str, name: str, known: Any) -> None:
    raise InputError(
        f"the {what} {name} isn't one whose numbers the binder knows."
        + did_you_mean(name, known)
        + f" Known: {', '.join(sorted(known))}."
    )


def _bind_head(head: ConfigDict, place: str, levels: Sequence[Level], growth: float) -> None:
    rule = HEADS[head.type]
    strides = [level.stride[0] if level.stride[0] == level.stride[1] else level.stride for level in levels]
    before = _first_stride(head, rule)
    for path in rule.strides:
        _at(head, path, lambda _: list(strides))
    for path in rule.in_strides:
        _at(head, path, lambda lengths: _times(lengths, min(levels[0].stride) / before))
    for path in rule.in_image:
        _at(head, path, lambda lengths: _times(lengths, growth))
    _set_channels(head, "in_channels", [level.channels for level in levels], f"model.{place}")


def _first_stride(head: ConfigDict, rule: Head) -> Number:
    """The stride of the base's first level; 8 where it relies on its head's defaults, which all begin there."""
    strides: Any = head if rule.strides else {}
    for name in rule.strides[0].split(".") if rule.strides else ():
        strides = strides.get(name) or {}
    first = strides[0] if strides else 8
    return min(first) if isinstance(first, (list, tuple)) else first


def _at(head: ConfigDict, path: str, change: Callable[[Any], Any]) -> None:
    """Changes the value at a dotted path; where the base leaves it to the head's default, only strides are set."""
    *parents, name = path.split(".")
    part: Any = head
    for parent in parents:
        part = part.get(parent)
        if part is None:
            return
    if name in part or name.endswith("strides"):
        part[name] = change(part.get(name))


def _times(lengths: Any, factor: float) -> Any:
    """Lengths in nested lists times a factor; below 0 and from 1e8 on they mean "without end"."""
    if isinstance(lengths, (list, tuple)):
        return type(lengths)(_times(length, factor) for length in lengths)
    return lengths if factor == 1 or not 0 < lengths < 1e8 else round(lengths * factor, 3)


def _set_channels(part: ConfigDict, name: str, channels: Sequence[int], place: str) -> None:
    if isinstance(part.get(name), (list, tuple)):
        part[name] = list(channels)
    elif name in part:
        if len(set(channels)) > 1:
            raise InputError(
                f"{place}: {part.type} takes maps with one number of channels, not {', '.join(map(str, channels))}; "
                "choose a base with a neck"
            )
        part[name] = channels[0]


def _bind_regions(model: ConfigDict, levels: Sequence[Level]) -> None:
    """RoI heads: their extractors' strides, and the channels that their box heads see."""
    roi = model.get("roi_head")
    if not roi:
        return
    if roi.type not in ROI_HEADS:
        _refuse("RoI head", str(roi.type), ROI_HEADS)
    if "shared_head" in roi:
        _refuse("RoI head's shared_head", str(roi.shared_head.type), BOX_HEADS)
    for name, given in roi.items():
        for part in given if isinstance(given, (list, tuple)) else [given]:
            if name.endswith("roi_extractor"):
                if part.type not in EXTRACTORS:
                    _refuse("RoI extractor", str(part.type), EXTRACTORS)
                seen = levels[: len(part.featmap_strides)]
                part.featmap_strides = [level.stride[0] for level in seen]
                part.finest_scale = FINEST_SCALE * min(seen[0].stride)
                part.out_channels = seen[0].channels
            elif name.endswith("head"):
                if part.type not in BOX_HEADS:
                    _refuse("box head", str(part.type), BOX_HEADS)
                _set_channels(part, "in_channels", [levels[0].channels], f"model.roi_head.{name}")


def _set_classes(part: Any, classes: int) -> None:
    """Sets every `num_classes` in the model. A region proposal network has none to set: it knows objects only."""
    for name, value in part.items() if isinstance(part, dict) else ():
        if name == "num_classes":
            part[name] = classes
        elif name != "rpn_head":
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                _set_classes(inner, classes)
