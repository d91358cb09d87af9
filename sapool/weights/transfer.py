"""Weights of a backbone into a rewritten one: what fits is transferred, the rest is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sapool.errors import WeightsError, some_of, visible
from sapool.weights.recognition import folded, other_network

_UNKNOWN = "no such key"

_ALONE = 2
"""Tensors that are named one by one: a classifier's."""


@dataclass(frozen=True)
class Transfer:
    """What loading weights did.

    Attributes:
        transferred: keys of the model that were loaded.
        new: keys of the model that the weights don't have; they keep their initialisation.
        dropped: keys of the weights that the model has no use for, each with the reason.
        other: the network that the weights are of by their names and shapes, where that is another than the model's.
    """

    transferred: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    other: str | None = None

    def __str__(self) -> str:
        new = sorted({_group(key) for key in self.new})
        text = f"{len(self.transferred)} tensors transferred, {len(self.new)} new, {len(self.dropped)} dropped"
        if self.other is not None:
            text = f"these are the weights of {self.other}; {text}"
        if new:
            text += f"; new: {some_of(new, separator=', ')}"
        if self.dropped:
            text += f"; dropped: {some_of(self.leftovers(), separator=', ')}"
        return visible(text)

    def leftovers(self) -> list[str]:
        """What was dropped, a phrase each: whole modules in one."""
        reasons = dict(self.dropped)
        phrases = []
        for word, keys in folded(reasons, (*self.transferred, *reasons)):
            known = {reasons[key] for key in keys}
            if len(keys) > _ALONE and known == {_UNKNOWN}:
                phrases.append(f"{word} ({len(keys)} tensors, no such keys)")
            elif len(keys) > _ALONE and _UNKNOWN not in known:
                phrases.append(f"{word} ({len(keys)} tensors of other shapes)")
            else:
                phrases += [f"{key} ({reasons[key]})" for key in keys]
        return phrases


def _group(key: str) -> str:
    """`pools.stage2.*` for a pool's keys, the module's path for others."""
    parts = key.split(".")
    return ".".join(parts[:2] if parts[0] == "pools" else parts[:-1]) + ".*"


def transfer(model: nn.Module, weights: Mapping[str, Tensor], backbone: str | None = None) -> Transfer:
    """Loads every tensor of `weights` that has a place of its name and shape in the model.

    A plain convolution's weight fills each kernel of a dynamic one. That of the first convolution is adapted to images
    of another number of channels: summed for grey ones, repeated and scaled for more (as timm does). Nothing is written
    unless something fits.

    Args:
        model: what they are loaded into.
        weights: a state dict in the model's names.
        backbone: the network that the model was made of; with it the weights of another are recognised.

    Raises:
        WeightsError: no tensor fits.
    """
    own = model.state_dict()
    first = next((key for key, value in own.items() if value.dim() in (4, 5)), "")
    fitting: dict[str, Tensor] = {}
    dropped: list[tuple[str, str]] = []
    for key, value in weights.items():
        if key not in own:
            dropped.append((key, _UNKNOWN))
        elif own[key].shape == value.shape:
            fitting[key] = value
        elif own[key].shape[1:] == value.shape and value.dim() in (1, 4):
            fitting[key] = value.expand_as(own[key])
        elif key == first and (adapted := _adapted(value, own[key])) is not None:
            fitting[key] = adapted
        else:
            dropped.append((key, f"{_shape(value)} where the model has {_shape(own[key])}"))
    other = other_network(weights, backbone) if backbone is not None and len(dropped) > _ALONE else None
    if not fitting:
        whose = f": they are those of {other}, and this is {backbone}" if other else ""
        raise WeightsError(
            f"none of the {len(weights)} tensors fits the model{whose}; its keys look like '{next(iter(own), '')}'"
        )
    model.load_state_dict(fitting, strict=False)
    return Transfer(tuple(fitting), tuple(key for key in own if key not in fitting), tuple(dropped), other)


def _adapted(value: Tensor, own: Tensor) -> Tensor | None:
    """The weight of a first convolution for other input channels, or None where more than those differ."""
    if value.dim() != 4 or value.shape[0] != own.shape[-4] or value.shape[2:] != own.shape[-2:]:
        return None
    had, wanted = value.shape[1], own.shape[-3]
    if wanted == 1:
        adapted = value.sum(1, keepdim=True)
    else:
        # Each input counts as much as before, all together.
        adapted = value.repeat(1, -(-wanted // had), 1, 1)[:, :wanted] * (had / wanted)
    return adapted.to(value.dtype).expand_as(own)


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a scalar"
