"""The published code's figures: how its weights and inputs were made, and what counts as agreement."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

RECORDS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "forward.json").read_text())


def name(record: dict[str, Any]) -> str:
    return f"{record['architecture']}@{record['input'][-1]}"


def records_in_tiers() -> list[Any]:
    """Every record as a parameter. Each run of the suite tries those of a training step and a third of the others."""
    quick = [name(record) for number, record in enumerate(RECORDS) if "train" in record or number % 3 == 0]
    by_name = {name(record): record for record in RECORDS}
    return [pytest.param(by_name[key], id=key, marks=[] if key in quick else [pytest.mark.slow]) for key in by_name]


def weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The deterministic state dict of a record, in the published naming."""
    return {key: torch.from_numpy(_values(key, tuple(shape))) for key, shape in shapes.items()}


def image(record: dict[str, Any]) -> Tensor:
    values = np.random.default_rng(0).standard_normal(record["input"])
    return torch.from_numpy(values.astype(np.float32))


def _values(key: str, shape: tuple[int, ...]) -> Any:
    n = np.random.default_rng(zlib.crc32(("net." + key).encode())).standard_normal(shape)
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if last == "running_mean":
        value = 0.1 * n
    elif last == "running_var":
        value = 1 + 0.1 * np.abs(n)
    elif len(shape) == 1:
        value = 1 + 0.1 * n if last == "weight" else 0.1 * n
    elif "embed" in key:
        value = 0.5 * n
    else:
        fan = np.prod(shape[2:] if len(shape) == 5 else shape[1:])
        value = n * np.sqrt(2 / fan)
    return np.asarray(value, dtype=np.float32)
