"""Streamed equals plain: every backbone, models of timm, every pooling, few bands and many, even and odd sizes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import sapool
from tests.schedule.support import distance, image, network_of

# Where 64 pixels are too few.
LARGER = {
    "inception_v3": (96, 101),
    "alexnet": (72, 81),
    "timm:selecsls42": (96, 101),
    "timm:legacy_xception": (96, 101),
}

# One of each of torchvision's families.
FAMILIES = (
    *("resnet50", "resnext50_32x4d", "mobilenet", "efficientnet_b0", "efficientnet_v2_s", "mnasnet0_5"),
    *("regnet_x_400mf", "regnet_y_400mf", "shufflenet_v2_x0_5", "densenet121", "convnext_tiny", "alexnet"),
    *("vgg11_bn", "squeezenet1_0", "googlenet"),
)

TIMM = ("resnet26t", "resnetblur50", "seresnet33ts")

FAST = ("resnet18", "mobilenet_v3_small", "resnet18-nlp_headfix2-1222", "prepool-lip-2-resnet18-avgp-1222")

SLOW = [*FAMILIES, *(f"timm:{name}" for name in TIMM)]


@pytest.mark.parametrize("text", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_streamed_equals_plain(text: str) -> None:
    if text.startswith("timm:"):
        pytest.importorskip("timm")
    even, odd = LARGER.get(text, (64, 77))
    model = network_of(text, even)
    for (height, width), counts in (((even, even), (2,)), ((odd, even + 9), (5, 1000))):
        x = image(2, 3, height, width)
        with torch.no_grad():
            expected = model(x)
            for bands in counts:
                streamed = sapool.stream(model, bands=bands, image_size=(height, width), seconds=0.5, check=False)
                far = distance(expected, streamed(x))
                assert far <= 1e-6 or (far <= _rounding(model, x) and _exact(model, streamed, x)), (
                    height,
                    width,
                    bands,
                )
                assert streamed.schedule.peak <= streamed.schedule.plain_peak


def _rounding(model: nn.Module, x: Tensor) -> float:
    """How far a model in float32 is from itself in float64: some networks magnify rounding."""
    return distance(model(x).double(), copy.deepcopy(model).double()(x.double()))


def _exact(model: nn.Module, streamed: nn.Module, x: Tensor) -> bool:
    return distance(copy.deepcopy(model).double()(x.double()), copy.deepcopy(streamed).double()(x.double())) <= 1e-12
