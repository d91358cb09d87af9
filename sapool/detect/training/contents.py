"""What a checkpoint of a detector's run holds, as far as anything here or in mmengine goes on from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from mmengine.logging import HistoryBuffer
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor

from sapool.detect.training.state import is_plain

_FORM = ConfigDict(extra="ignore", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
_Count = Annotated[int, Field(ge=0, lt=2**40)]


def _which(allowed: Callable[[Any], bool], what: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not allowed(value):
            raise ValueError(f"expected {what}")
        return value

    return AfterValidator(check)


def _is_history(value: HistoryBuffer) -> bool:
    """Whether the two arrays of a history are numbers, one of each for every step."""
    arrays = [getattr(value, name, None) for name in ("_log_history", "_count_history")]
    plain = all(isinstance(each, np.ndarray) and each.ndim == 1 and each.dtype.kind in "fiu" for each in arrays)
    return plain and len(arrays[0]) == len(arrays[1]) and type(getattr(value, "max_length", None)) is int  # type: ignore[arg-type]


def _as_float(value: Any) -> Any:
    """mmengine's figures are numpy's numbers."""
    return value.item() if isinstance(value, np.generic) else value


_Figure = Annotated[float, BeforeValidator(_as_float)]
_Plain = Annotated[Any, _which(is_plain, "a number, a text, or a list of such")]


class _Meta(BaseModel):
    model_config = _FORM

    epoch: Annotated[int, Field(ge=0, le=2**31)]
    iter: _Count
    cfg: str = ""
    config: str = ""


class _Runtime(BaseModel):
    model_config = _FORM

    best_score: _Figure | None = None


class _Hub(BaseModel):
    """mmengine's message hub: curves, and what its parts tell each other."""

    model_config = _FORM

    log_scalars: dict[str, Annotated[HistoryBuffer, _which(_is_history, "a history of numbers")]]
    runtime_info: _Runtime
    resumed_keys: dict[str, bool]


class _Optimizer(BaseModel):
    model_config = _FORM

    state: dict[int, dict[str, Tensor | _Plain]]
    param_groups: list[dict[str, _Plain]]


class _Own(BaseModel):
    """What is kept besides: see `sapool.detect.training.state`."""

    model_config = _FORM

    losses: tuple[_Figure, _Count] = (0.0, 0)
    batch: _Count = 0
    validation_due: bool = False
    memory: dict[str, _Plain] = Field(default_factory=dict)
    gradients: dict[str, Tensor] = Field(default_factory=dict)


class Contents(BaseModel):
    """The whole file. That of the best epoch has no optimizer and no schedule."""

    model_config = _FORM

    meta: _Meta
    state_dict: dict[str, Tensor]
    message_hub: _Hub | None = None
    optimizer: _Optimizer | None = None
    param_schedulers: list[dict[str, _Plain]] | None = None
    sapool: _Own = _Own()
    sapool_seconds: Annotated[_Figure, Field(ge=0)] = 0.0
