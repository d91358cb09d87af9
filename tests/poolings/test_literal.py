"""Every pooling computes what its formula says, and so do its gradients and the running statistics it leaves."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sapool import poolings
from sapool.catalogue.poolings import POOLINGS
from sapool.poolings.deformable import resample
from sapool.poolings.dynamic import DynamicConv2d
from tests import literal
from tests.poolings.cases import OTHERS, SELF_ATTENTIVE, TOLERANCE, Case, assert_close, gradients, randomise

EVEN, ODD = (8, 12), (9, 11)
MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])

# Patch 3 doesn't nest with stride 2 or 4, nor do 2 and 4 with stride 3. On the even map patch 3 leaves two rows.
EXACT = [
    *(Case(kind, stride, size) for kind, stride, size in product(OTHERS, (2, 3, 4), (EVEN, ODD))),
    *(
        Case(kind, stride, size, patch, window, dynamic)
        for kind, stride, size, patch, window, dynamic in product(
            SELF_ATTENTIVE, (2, 3, 4), (EVEN, ODD), (1, 2, 3, 4), (True, False), (False, True)
        )
    ),
]
# A few of each, for what only single precision does: the shapes on which batch norm isn't ill-conditioned.
SINGLE = [
    *(Case(kind, stride, size) for kind, stride, size in product(OTHERS, (2, 4), (EVEN, ODD))),
    *(
        Case(kind, stride, size, patch, window, dynamic)
        for kind, (stride, patch, size), (window, dynamic) in product(
            SELF_ATTENTIVE,
            [(2, 1, EVEN), (2, 2, EVEN), (3, 2, ODD), (3, 4, EVEN), (4, 3, ODD)],
            [(True, False), (False, False), (True, True)],
        )
    ),
]


@MODES
@pytest.mark.parametrize("case", EXACT, ids=str)
def test_double_precision(case: Case, training: bool) -> None:
    check(case, torch.float64, training)


@MODES
@pytest.mark.parametrize("case", SINGLE, ids=str)
def test_single_precision(case: Case, training: bool) -> None:
    check(case, torch.float32, training)


def check(case: Case, dtype: torch.dtype, training: bool) -> None:
    pool = case.pool(dtype).train(training)
    oracle = literal.of(case.kind, pool)
    assert dict(oracle.named_parameters()).keys() == dict(pool.named_parameters()).keys()
    x = case.map(dtype)
    seen = gradients(pool, x)
    assert_close(seen, gradients(oracle, x))
    assert_close(dict(pool.named_buffers()), dict(oracle.named_buffers()))
    rounded = math.ceil if POOLINGS.find(case.kind).keeps_strides else math.floor  # as strided convolutions, or pools
    assert seen["output"].shape == (len(x), case.channels, *(rounded(side / case.stride) for side in case.size))
    if training:
        assert seen.keys() == {"output", "input", *dict(pool.named_parameters())}


def test_gaussian_noise_is_for_training_only() -> None:
    pool = Case("gaussian_pool", 2, EVEN).pool()
    x = Case("gaussian_pool", 2, EVEN).map()
    assert not torch.equal(pool(x), pool(x))
    pool.eval()
    assert torch.equal(pool(x), pool(x))


def test_gaussian_deviation_has_a_floor() -> None:
    case = Case("gaussian_pool", 2, EVEN)
    pool = case.pool().eval()
    flat = literal.upsample(literal.average(case.map(), 2), *EVEN)
    seen = gradients(pool, flat)
    assert_close(seen, gradients(literal.of(case.kind, pool), flat))
    assert (seen["output"] - literal.average(flat, 2)).abs().max() < 0.01


@pytest.mark.parametrize("conv", [nn.Conv2d, DynamicConv2d])
@pytest.mark.parametrize("kind", ["dfmnlp", "dfmixp"])
def test_sampling_starts_from_the_same_offset_everywhere(kind: str, conv: poolings.ConvFactory) -> None:
    pool = poolings.build(kind, 6, 2, heads=2, patch=2, conv=conv)
    for name in ("offset.weight", "mask.weight"):
        assert not pool.get_parameter(name).any()


@pytest.mark.parametrize("size", [(7, 5), (1, 6), (6, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_resample_far_off_the_map(size: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, offset = torch.randn(2, 3, *size, dtype=dtype), 4 * torch.randn(2, 2, *size, dtype=dtype)
    projection = torch.randn_like(x)
    results = []
    for function in (resample, literal.resample):
        inputs = [x.clone().requires_grad_(), offset.clone().requires_grad_()]
        y = function(*inputs)
        results.append({"y": y.detach(), **dict(zip("xo", torch.autograd.grad(y, inputs, projection), strict=True))})
    assert_close(*results)


def test_resample_by_whole_pixels_moves_the_map() -> None:
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    offset = torch.tensor([1.0, -2.0], dtype=torch.float64)[None, :, None, None].expand(2, 2, 6, 7)
    moved = x[:, :, [1, 2, 3, 4, 5, 5]][:, :, :, [0, 0, 0, 1, 2, 3, 4]]
    assert_close({"y": resample(x, offset)}, {"y": moved})


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2},
    "grouped": {"groups": 2},
    "depthwise": {"groups": 6, "padding": 1},
    "no bias": {"bias": False},
    "cold": {"temperature": 1.0},
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("channels", [6, 3])
@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_dynamic_convolution(settings: dict[str, Any], channels: int, dtype: torch.dtype) -> None:
    if channels % settings.get("groups", 1):
        settings = settings | {"groups": channels}
    torch.manual_seed(0)
    conv = DynamicConv2d(channels, 6, 3, **settings)
    randomise(conv)
    conv.to(dtype)
    padding = settings.get("padding", 0)
    oracle = literal.DynamicConvolution(conv, **settings | {"padding": (padding, padding)})
    x = torch.randn(4, channels, 7, 8, dtype=dtype)
    seen = gradients(conv, x)
    assert seen.keys() == {"output", "input", *dict(conv.named_parameters())}
    assert_close(seen, gradients(oracle, x))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_dynamic_convolution_keeps_the_size_where_told(size: int) -> None:
    torch.manual_seed(0)
    conv = DynamicConv2d(6, 4, size, padding="same")
    randomise(conv)
    conv.double()
    oracle = literal.DynamicConvolution(conv, padding=((size - 1) // 2, size // 2))
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
    seen = gradients(conv, x)
    assert seen["output"].shape == (3, 4, 5, 4)
    assert_close(seen, gradients(oracle, x))


@pytest.mark.parametrize(("channels", "hidden"), [(3, 4), (4, 2), (6, 2), (64, 17)])
def test_kernel_attention_widths(channels: int, hidden: int) -> None:
    shapes = {name: tuple(values.shape) for name, values in DynamicConv2d(channels, 8, 3).named_parameters()}
    assert shapes == {
        "weight": (4, 8, channels, 3, 3),
        "bias": (4, 8),
        "attention.fc1.weight": (hidden, channels, 1, 1),
        "attention.fc2.weight": (4, hidden, 1, 1),
        "attention.fc2.bias": (4,),
    }


def test_images_mix_kernels_of_their_own() -> None:
    """The cases above would not tell a mixture per image from one per batch if shares didn't differ."""
    torch.manual_seed(0)
    conv = DynamicConv2d(6, 4, 3)
    randomise(conv)
    images = torch.randn(4, 6, 8, 12)
    shares: Tensor = conv.attention(images)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    assert shares.std(dim=0).max() > 0.01
    assert shares.std(dim=1).min() > 0.05
