"""Weights of a backbone into a rewritten one: what fits is transferred, the rest is told."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sapool.errors import WeightsError


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
            text += f"; new: {', '.join(new)}"
        if self.dropped:
            text += "; dropped: " + ", ".join(f"{key} ({reason})" for key, reason in self.dropped)
        return text


def _group(key: str) -> str:
    """`pools.stage2.*` for a pool's keys, the module's path for others."""
    parts = key.split(".")
    return ".".join(parts[:2] if parts[0] == "pools" else parts[:-1]) + ".*"


def transfer(model: nn.Module, weights: Mapping[str, Tensor]) -> Transfer:
    """Loads every tensor of `weights` that has a place of its name and shape in the model.

    A plain convolution's weight fills each kernel of a dynamic one. Nothing is written unless something fits.

    Raises:
        WeightsError: no tensor fits.
    """
    own = model.state_dict()
    fitting: dict[str, Tensor] = {}
    dropped: list[tuple[str, str]] = []
    for key, value in weights.items():
        if key not in own:
            dropped.append((key, "no such key"))
        elif own[key].shape == value.shape:
            fitting[key] = value
        elif own[key].shape[1:] == value.shape and value.dim() in (1, 4):
            fitting[key] = value.expand_as(own[key])
        else:
            dropped.append((key, f"{_shape(value)} where the model has {_shape(own[key])}"))
    if not fitting:
        raise WeightsError(
            f"none of the {len(weights)} tensors fits the model; its keys look like '{next(iter(own), '')}'"
        )
    model.load_state_dict(fitting, strict=False)
    return Transfer(tuple(fitting), tuple(key for key in own if key not in fitting), tuple(dropped))


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a scalar"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a file of weights holds: a mapping, read with `weights_only=True`.

    Raises:
        WeightsError: no such file, not a checkpoint, or one that would run code on loading.
    """
    expected = "expected tensors saved with torch.save"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on files that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}") from None
    except OSError as error:
        reason = (
            "it is damaged" if error.errno == EINVAL else f"{error.strerror}"
        )  # torch seeks where the file has ended
        raise WeightsError(f"{path} can't be read: {reason}") from None
    except pickle.UnpicklingError as error:
        refused = any(word in str(error) for word in ("GLOBAL", "REDUCE", "Unsupported class", "not an allowed"))
        reason = "it holds objects that could run code" if refused else "it isn't a checkpoint, or is damaged"
        raise WeightsError(f"{path} isn't loaded: {reason}; {expected}") from None
    except Exception:  # whatever bytes that are no checkpoint make the reader stumble over
        raise WeightsError(f"{path} isn't loaded: it isn't a checkpoint, or is damaged; {expected}") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}; expected a state dict")
    return content


def state_dict_in(content: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint: the mapping itself, or what `state_dict` or `model` holds.

    Raises:
        WeightsError: there is none.
    """
    for name in ("state_dict", "model"):
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} holds no state dict: expected a mapping of names to tensors")
    return content
