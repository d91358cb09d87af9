"""Weights of a backbone into a rewritten one: what fits is transferred, the rest is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sapool.errors import WeightsError, some_of, visible


@dataclass(frozen=True)
class Transfer:
    """What loading weights did.

    Attributes:
        transferred: keys of the model that were loaded.
        new: keys of the model that the weights don't have; they keep their initialisation.
        dropped: keys of the weights that the model has no use for, each with the reason.
    """

    transferred: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        new = sorted({_group(key) for key in self.new})
        text = f"{len(self.transferred)} tensors transferred, {len(self.new)} new, {len(self.dropped)} dropped"
        if new:
            text += f"; new: {some_of(new, separator=', ')}"
        if self.dropped:
            text += "; dropped: " + some_of([f"{key} ({reason})" for key, reason in self.dropped], separator=", ")
        return visible(text)


def _group(key: str) -> str:
    """`pools.stage2.*` for a pool's keys, the module's path for others."""
    parts = key.split(".")
    return ".".join(parts[:2] if parts[0] == "pools" else parts[:-1]) + ".*"


def transfer(model: nn.Module, weights: Mapping[str, Tensor]) -> Transfer:
    """Loads every tensor of `weights` that has a place of its name and shape in the model.

    A plain convolution's weight fills each kernel of a dynamic one. That of the first convolution is adapted to images
    of another number of channels: summed for grey ones, repeated and scaled for more (as timm does). Nothing is written
    unless something fits.

    Raises:
        WeightsError: no tensor fits.
    """
    own = model.state_dict()
    first = next((key for key, value in own.items() if value.dim() in (4, 5)), "")
    fitting: dict[str, Tensor] = {}
    dropped: list[tuple[str, str]] = []
    for key, value in weights.items():
        if key not in own:
            dropped.append((key, "no such key"))
        elif own[key].shape == value.shape:
            fitting[key] = value
        elif own[key].shape[1:] == value.shape and value.dim() in (1, 4):
            fitting[key] = value.expand_as(own[key])
        elif key == first and (adapted := _adapted(value, own[key])) is not None:
            fitting[key] = adapted
        else:
            dropped.append((key, f"{_shape(value)} where the model has {_shape(own[key])}"))
    if not fitting:
        raise WeightsError(
            f"none of the {len(weights)} tensors fits the model; its keys look like '{next(iter(own), '')}'"
        )
    model.load_state_dict(fitting, strict=False)
    return Transfer(tuple(fitting), tuple(key for key in own if key not in fitting), tuple(dropped))


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
