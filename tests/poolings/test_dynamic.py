"""A dynamic convolution's orders of work: which one a shape takes, and that all compute the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sapool.poolings.dynamic import DynamicConv2d
from tests import literal
from tests.poolings.cases import TOLERANCE, assert_close, gradients, randomise

MIXED_AFTER: dict[str, dict[str, Any]] = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilated": {"kernel_size": 3, "dilation": 2},
    "oblong": {"kernel_size": (3, 2), "padding": (1, 0), "stride": (2, 1)},
    "no bias": {"kernel_size": 3, "bias": False},
}
MULTIPLIED: dict[str, dict[str, Any]] = {
    "1x1": {"kernel_size": 1},
    "strided": {"kernel_size": 1, "stride": 2},
    "no bias": {"kernel_size": 1, "bias": False},
}
CASES = [
    *(pytest.param("_mixed_after", settings, id=f"mixed after, {name}") for name, settings in MIXED_AFTER.items()),
    *(pytest.param("_one_by_one", settings, id=f"one by one, {name}") for name, settings in MIXED_AFTER.items()),
    *(pytest.param("_multiplied", settings, id=f"multiplied, {name}") for name, settings in MULTIPLIED.items()),
]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("way", "settings"), CASES)
def test_each_order_is_the_formula(
    way: str, settings: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    conv = DynamicConv2d(6, 5, **settings)
    randomise(conv)
    conv.to(dtype)
    x = torch.randn(3, 6, 7, 8, dtype=dtype)
    grouped = gradients(_taking(conv, "_grouped", monkeypatch), x)
    seen = gradients(_taking(conv, way, monkeypatch), x)
    assert_close(seen, grouped)
    if settings["kernel_size"] != (3, 2):
        side = settings.get("padding", 0)
        rest = {name: value for name, value in settings.items() if name not in ("kernel_size", "padding")}
        assert_close(seen, gradients(literal.DynamicConvolution(conv, padding=(side, side), **rest), x))


@pytest.mark.parametrize("way", ["_grouped", "_one_by_one", "_mixed_after"])
def test_gradients_are_those_of_differences(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    conv = DynamicConv2d(2, 3, 2, stride=2, kernels=2)
    randomise(conv)
    _taking(conv.double(), way, monkeypatch)
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x,))


def _taking(conv: DynamicConv2d, way: str, monkeypatch: pytest.MonkeyPatch) -> DynamicConv2d:
    monkeypatch.setattr(conv, "_way", lambda x: getattr(conv, way))
    return conv


@pytest.mark.parametrize(
    ("batch", "channels", "side", "settings", "way"),
    [
        (8, (512, 512), 4, {"kernel_size": 3, "padding": 1}, "_mixed_after"),
        (8, (256, 512), 8, {"kernel_size": 3, "padding": 1, "stride": 2}, "_mixed_after"),
        (8, (512, 512), 14, {"kernel_size": 3, "padding": 1}, "_grouped"),  # too many pixels
        (1, (512, 512), 4, {"kernel_size": 3, "padding": 1}, "_grouped"),  # one image: its kernel is mixed once
        (8, (64, 64), 4, {"kernel_size": 3, "padding": 1}, "_grouped"),  # kernels that stay in the cache
        (8, (512, 512), 4, {"kernel_size": 3, "padding": "same"}, "_grouped"),
        (8, (960, 960), 4, {"kernel_size": 3, "padding": 1, "groups": 960}, "_grouped"),
        (8, (160, 960), 4, {"kernel_size": 1}, "_multiplied"),
        (8, (3, 32), 128, {"kernel_size": 3, "stride": 2, "padding": 1}, "_one_by_one"),
    ],
)
def test_order_by_shape(batch: int, channels: tuple[int, int], side: int, settings: dict[str, Any], way: str) -> None:
    with torch.device("meta"):
        conv, x = DynamicConv2d(*channels, **settings), torch.empty(batch, channels[0], side, side)
        assert conv._way(x).__name__ == way
        assert conv(x).shape == nn.Conv2d(*channels, **settings)(x).shape


def test_exported_programs_take_any_batch() -> None:
    torch.manual_seed(0)
    conv = DynamicConv2d(4, 6, 1)
    randomise(conv)
    x = torch.randn(3, 4, 5, 5)
    program = torch.export.export(conv, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
    for images in (x, x[:2].flip(0)):
        torch.testing.assert_close(program.module()(images), conv(images))
