"""Checkpoints as files: read as data, never run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from errno import EINVAL
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from sapool.digests import check, remark
from sapool.errors import InputError, WeightsError, some_of

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_checkpoint(path: str | Path, *, ours: bool = False) -> dict[str, Any]:
    """What a file of weights holds: a mapping, read with `weights_only=True`, its digest checked where it has one.

    Args:
        path: the file.
        ours: whether it should have one; a warning says where it hasn't.

    Raises:
        WeightsError: no such file, not a checkpoint, a damaged one, or one that would run code on loading.
    """
    expected = "expected tensors saved with torch.save"
    try:
        whole = check(path)
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
    except InputError as error:  # of the digest
        raise WeightsError(str(error)) from None
    except pickle.UnpicklingError as error:
        refused = any(word in str(error) for word in ("GLOBAL", "REDUCE", "Unsupported class", "not an allowed"))
        reason = "it holds objects that could run code" if refused else "it isn't a checkpoint, or is damaged"
        raise WeightsError(f"{path} isn't loaded: {reason}; {expected}") from None
    except Exception:  # whatever bytes that are no checkpoint make the reader stumble over
        raise WeightsError(f"{path} isn't loaded: it isn't a checkpoint, or is damaged; {expected}") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}; expected a state dict")
    if ours and not whole:
        remark(path)
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
    return checked(content, path)


def checked(state: object, path: str | Path) -> dict[str, Tensor]:
    """A state dict, as what a file holds is one.

    Raises:
        WeightsError: it is something else, or a tensor isn't of plain numbers that are all there.
    """
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds no state dict: expected a mapping of names to tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path} holds no state dict: expected a mapping of names to tensors")
        if (odd := _odd(value)) is not None:
            raise WeightsError(f"{path}: {key} is a tensor that {odd}; expected plain numbers")
    return state


def _odd(value: Tensor) -> str | None:
    if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.is_nested:
        return "isn't dense"
    if value.is_quantized or value.is_complex() or (value.is_floating_point() and value.dtype not in _FLOATS):
        return f"is of {str(value.dtype).removeprefix('torch.')}"
    if value.device.type != "cpu":
        return f"is on {value.device}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "repeats its numbers without holding them"
    return None


def first_problem(error: ValidationError) -> str:
    """Where the contents of a file aren't what they should be, and why: the first place."""
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, problem["loc"]))
    where = where if len(where) <= 120 else f"{where[:60]}... ({len(where):,} characters)"
    return f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Where a state dict isn't one of a network's: the first few places, or "" where it is.

    Args:
        own: the network's state dict.
        given: what is to be loaded into it.
    """
    odd = [f"{key} is missing" for key in own if key not in given]
    odd += [f"{key} belongs to no part of it" for key in given if key not in own]
    for key in own.keys() & given.keys():
        ours, theirs = own[key], given[key]
        if ours.shape != theirs.shape:
            odd.append(f"{key} is {_shape(theirs)} and should be {_shape(ours)}")
        elif ours.is_floating_point() != theirs.is_floating_point():
            kinds = (str(value.dtype).removeprefix("torch.") for value in (theirs, ours))
            odd.append(f"{key} is of {' and should be of '.join(kinds)}")
    return some_of(sorted(odd))


def mixed(state: Mapping[str, Tensor]) -> str:
    """Which kinds of numbers a state dict mixes that no network computes with at once; "" for none.

    Norms have the numbers of the layers that have matrices, or single ones where those have half as many bits.
    """
    layers = {key.rpartition(".")[0] for key, value in state.items() if value.dim() > 1}
    numbers = [
        (key.rpartition(".")[0] in layers, value.dtype) for key, value in state.items() if value.is_floating_point()
    ]
    kinds = {kind for of_layer, kind in numbers if of_layer}
    if len(kinds) == 1:
        halves = kinds <= {torch.float16, torch.bfloat16}
        kinds |= {kind for of_layer, kind in numbers if not of_layer and not (halves and kind == torch.float32)}
    return " and ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds)) if len(kinds) > 1 else ""


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a scalar"


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file.

    Raises:
        WeightsError: it can't be read, or holds none.
    """
    return state_dict_in(read_checkpoint(path), path)
