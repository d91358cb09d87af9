"""TensorFlow Lite Micro is held to LiteRT: as near as integers, or single precision, let two runtimes be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("tflite_micro")
from sapool.errors import WorkError
from sapool.export.litert import Int8Backend, LiteRTBackend
from sapool.export.tflite.runtimes import Recorded


def subject(*, noise: bool = False, rounding: float = 0) -> Any:
    """A network that doubles its image, in single precision with an error."""

    def expected(images: torch.Tensor) -> list[torch.Tensor]:
        return [2 * images + (rounding if images.dtype == torch.float32 else 0)]

    return SimpleNamespace(calibration=SimpleNamespace(images=torch.ones(2, 1), noise=noise), expected=expected)


def compared(found: list[float], expected: list[float], *, integer: bool, **more: Any) -> str:
    kind = np.int8 if integer else np.float32
    recorded = Recorded(np.array([found], kind), 0, 0, {})
    return (Int8Backend() if integer else LiteRTBackend())._compare(
        recorded, np.array([expected], kind), subject(**more)
    )


def test_integers_are_some_steps_apart_or_much_alike() -> None:
    assert compared([0, 16, 5], [0, 0, 0], integer=True) == (
        "TensorFlow Lite Micro's output is within 16 of 256 steps of LiteRT's"
    )
    assert "within 20 of" in compared([0, 60, -80], [0, 60, -100], integer=True)
    with pytest.raises(WorkError, match=r"within 60 of 256 steps of LiteRT's; 16 is allowed"):
        compared([60, 0, 0], [0, 60, 0], integer=True)


def test_of_noise_integers_are_alive_alone() -> None:
    compared([60, 0, 0], [0, 60, 0], integer=True, noise=True)
    with pytest.raises(WorkError, match=r"within 60 of 256 steps"):
        compared([0, 0, 1], [0, 60, 0], integer=True, noise=True)


def test_floats_are_as_near_as_single_precision() -> None:
    compared([1.00009], [1], integer=False)
    with pytest.raises(WorkError, match=r"within 0.00011\d* of 1 of LiteRT's; 0.0001 is allowed"):
        compared([1.00011], [1], integer=False)
    compared([1.00075], [1], integer=False, rounding=1e-4)
    with pytest.raises(WorkError, match=r"0.000(799|8) is allowed"):
        compared([1.00085], [1], integer=False, rounding=1e-4)
