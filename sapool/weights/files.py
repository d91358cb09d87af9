"""Checkpoints as files: read as data, never run."""

from __future__ import annotations

import pickle
import warnings
from errno import EINVAL
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sapool.errors import WeightsError


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


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file.

    Raises:
        WeightsError: it can't be read, or holds none.
    """
    return state_dict_in(read_checkpoint(path), path)
