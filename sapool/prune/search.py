"""Pruning to a target: the smallest part of all channels whose going is enough."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from sapool.analysis.shapes import on_meta
from sapool.cost.assumptions import Assumptions
from sapool.cost.budget import parse_size
from sapool.cost.flops import costs, total
from sapool.cost.memory import activation_memory
from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.poolings import Pooling
from sapool.poolings.dynamic import DynamicConv2d
from sapool.prune.pools import layer_state, pool_state
from sapool.prune.selection import Importance, Kept, import_torch_pruning, select
from sapool.prune.surrogate import MARK

IMPORTANCES = get_args(Importance)
_STEPS = 8
_MOST = 0.95


@dataclass(frozen=True)
class Size:
    """What a network costs for one image: `peak` is of its activations, in bytes."""

    parameters: int
    macs: int
    peak: int


@dataclass(frozen=True)
class Pruned:
    """A pruned model.

    Attributes:
        model: with fewer channels, and the numbers of those that stayed.
        ratio: which part of the channels that could be ranked went.
        before, after: what the two cost.
    """

    model: CompiledModel
    ratio: float
    before: Size
    after: Size


def prune(
    model: CompiledModel,
    *,
    macs: float | None = None,
    budget: int | str | None = None,
    importance: Importance = "magnitude",
    round_to: int = 8,
    assumptions: Assumptions | None = None,
) -> Pruned:
    """Takes the least important channels out of a network, until it is as small as asked.

    Whatever must go together goes together: shortcuts, depthwise convolutions, and the pools of a map. A pool's tokens
    keep their ratio to the map's channels, in whole multiples of its heads. The number of classes stays. Accuracy is
    lost at first; train the result again.

    Args:
        model: with trained weights; stays as it is.
        macs: multiply-accumulates of one image at most, as a number, or up to 1 as a part of the model's.
        budget: peak activation memory at most, in bytes or as `256KB`.
        importance: what is lost with a channel: the `magnitude` of its weights, or its `batchnorm` scales.
        round_to: layers keep multiples of so many channels.
        assumptions: under which memory is counted.

    Raises:
        InputError: neither target or both are given, the model is optimized or can't be followed, or nothing that is
            left would be small enough.
    """
    wanted = _target(macs, budget)
    if importance not in IMPORTANCES:
        raise InputError(f"importance: expected {' or '.join(IMPORTANCES)}, not '{importance}'")
    if round_to < 1:
        raise InputError(f"round_to: expected a positive number, not {round_to}")
    if model.origin.optimized:
        raise InputError("an optimized model can't be pruned: prune the trained one, and optimize the result")
    import_torch_pruning()
    assumptions = assumptions or Assumptions()
    before = _size(_twin(model), assumptions)
    limit = wanted(before)
    if limit[1] >= limit[2]:
        return Pruned(copy.deepcopy(model), 0.0, before, before)

    def attempt(ratio: float) -> tuple[dict[str, Tensor], Size]:
        state = _state(model, select(model, ratio, importance, round_to))
        return state, _size(_narrowed(model, state, device="meta"), assumptions)

    low, high = 0.0, _MOST
    state, after = attempt(high)
    name, most, _ = limit
    if getattr(after, name) > most:
        raise InputError(
            f"{name}: {most:,} can't be reached; with {high:.0%} of the channels gone it is {getattr(after, name):,}"
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        found = attempt(middle)
        if getattr(found[1], name) <= most:
            high, (state, after) = middle, found
        else:
            low = middle
    return Pruned(_narrowed(model, state), high, before, after)


def _target(macs: float | None, budget: int | str | None) -> Callable[[Size], tuple[str, int, int]]:
    """What is limited, to what, and what it is of a network."""
    if (macs is None) == (budget is None):
        raise InputError("pruning needs one target: macs, such as 0.5, or budget, such as 256KB")
    if budget is not None:
        size = parse_size(budget) if isinstance(budget, str) else budget
        return lambda before: ("peak", size, before.peak)
    assert macs is not None
    if macs <= 0:
        raise InputError(f"macs: expected a part up to 1, or a number, not {macs:g}")
    return lambda before: ("macs", int(macs * before.macs) if macs <= 1 else int(macs), before.macs)


def _size(model: CompiledModel, assumptions: Assumptions) -> Size:
    whole = total(costs(model, model.plan))
    return Size(whole.parameters, whole.macs, activation_memory(model, model.plan, assumptions).peak)


def _state(model: CompiledModel, kept: Kept) -> dict[str, Tensor]:
    """The whole model's state dict with the channels that stay."""
    state = dict(model.state_dict())
    own = {path: layer for path, layer in model.named_modules() if isinstance(layer, (Pooling, DynamicConv2d))}
    for key, value in kept.state.items():
        if key in state and not any(key.startswith(f"{path}.") for path in own):
            state[key] = value.to(state[key].device, state[key].dtype)
    pools = [path for path, layer in own.items() if isinstance(layer, Pooling)]
    for path, layer in own.items():
        if isinstance(layer, Pooling):
            channels = kept.outputs.get(f"{path}.{MARK}")
            new = pool_state(layer, channels) if channels is not None else {}
        elif any(path.startswith(f"{pool}.") for pool in pools):
            continue
        else:
            new = layer_state(layer, kept.outputs.get(path), kept.inputs.get(path))
        state |= {f"{path}.{key}": value for key, value in new.items()}
    return state


def _narrowed(model: CompiledModel, state: Mapping[str, Tensor], device: str | None = None) -> CompiledModel:
    """A copy of the model with other tensors; without data on the meta device."""
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    if device == "meta":
        return _twin(model).narrow(shapes)
    narrowed = copy.deepcopy(model).narrow(shapes)
    with torch.no_grad():
        narrowed.load_state_dict(state)
    return narrowed


def _twin(model: CompiledModel) -> CompiledModel:
    twin = on_meta(model)
    assert isinstance(twin, CompiledModel)
    return twin
