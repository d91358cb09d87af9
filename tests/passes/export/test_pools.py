"""Pools as microcontrollers can have them: each pass over a compiled model, held to what the model computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sapool
from sapool.model import CompiledModel
from sapool.passes import rewrite_for_microcontroller
from sapool.passes.export.attention import RowwiseAttention
from sapool.passes.export.dynamic import MixedOutputs
from sapool.passes.export.importance import LARGEST_ERROR, SHIFT, SLOPE, LogisticImportance
from sapool.passes.export.soft import LogisticSoftPool
from sapool.poolings.dynamic import DynamicConv2d
from sapool.poolings.window import Importance


def optimized(text: str, size: int = 32) -> CompiledModel:
    torch.manual_seed(0)
    model = sapool.compile(text, num_classes=4, image_size=size)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, size, size))
    return sapool.optimize(model.eval(), channels_last=False)


def rewritten(model: CompiledModel, *, integer: bool) -> tuple[CompiledModel, set[str]]:
    twin = copy.deepcopy(model)
    log = rewrite_for_microcontroller(twin, twin.plan, integer=integer)
    return twin, {rewrite.rule for rewrite in log.rewrites}


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("mobilenet_v2-nlp_headfix2_nowin_reduced-1222121", {"split_attention"}),
        pytest.param("resnet18-nlp-1222", {"split_attention"}, marks=pytest.mark.slow),
        ("resnet18-attnpool-1222", {"split_attention"}),
        pytest.param("mobilenet-mixp_reduced-1222121", {"split_attention"}, marks=pytest.mark.slow),
        ("mobilenet-gaussian_pool-1222121", {"square_deviations"}),
        pytest.param("dyresnet18-nlp_headfix2-1122", {"split_attention", "mix_outputs"}, marks=pytest.mark.slow),
        pytest.param("resnet18-lip-1222", set(), marks=pytest.mark.slow),
        ("resnet18-skip-1222", set()),
    ],
)
def test_exact_rewrites_are_exact(text: str, rules: set[str]) -> None:
    model, x = optimized(text), torch.randn(2, 3, 32, 32)
    twin, found = rewritten(model, integer=False)
    assert found == rules
    with torch.no_grad():
        torch.testing.assert_close(twin(x), model(x), rtol=1e-4, atol=1e-5)


def test_exponentials_of_sigmoids_are_a_logistic_within_the_stated_error() -> None:
    logits = torch.linspace(-20, 20, 40001).view(1, 1, -1, 1)
    error = (LogisticImportance(1)(SLOPE * logits + SHIFT) - Importance()(logits)).abs().max()
    assert 0.9 * LARGEST_ERROR < error < LARGEST_ERROR


@pytest.mark.parametrize(
    "text",
    [
        "resnet18-lip-1222",
        pytest.param("mobilenet-mixp_reduced-1222121", marks=pytest.mark.slow),
        pytest.param("dyresnet18-nlp_headfix2-1122", marks=pytest.mark.slow),
    ],
)
def test_weights_stay_near_where_exponentials_are_approximated(text: str) -> None:
    model = optimized(text)
    twin, found = rewritten(model, integer=True)
    assert "approximate_exponential" in found
    site = next(site for site in model.plan.sites if site.pool is not None)
    with torch.no_grad():
        y = torch.randn(2, site.channels, *site.map)
        expected, seen = (m.get_submodule(site.module).weight(y) for m in (model, twin))
    assert (expected - seen).abs().max() < 2 * LARGEST_ERROR * 3  # a mixed pool's weight is a product of two


def test_soft_pooling_divides_by_a_logistic() -> None:
    model = optimized("resnet18-softpool-1222")
    twin, found = rewritten(model, integer=True)
    assert found == {"divide_by_logistics"}
    assert rewritten(model, integer=False)[1] == set()
    pool = twin.get_submodule(next(site.module for site in model.plan.sites if site.pool is not None))
    assert isinstance(pool, LogisticSoftPool)
    x = 20 * torch.randn(2, pool.channels, 9, 8).double()  # some far below their window's largest, and an odd side
    windows = F.unfold(x[:, :, :8], 2, stride=2).view(2, pool.channels, 4, 16)
    expected = (windows * windows.softmax(2)).sum(2)
    torch.testing.assert_close(pool(x).flatten(2), expected, rtol=1e-12, atol=1e-12)


def test_an_exponential_without_a_sigmoid_is_left_alone() -> None:
    model = optimized("resnet18-nlpnosigmoid-1122")
    _, found = rewritten(model, integer=True)
    assert "approximate_exponential" not in found


@pytest.mark.slow
def test_rows_are_attended_to_in_blocks() -> None:
    model = optimized("mobilenet-nlp_headfix2-1222121", 64)
    twin, _ = rewritten(model, integer=False)
    attention = next(m for m in twin.modules() if isinstance(m, RowwiseAttention))
    assert attention.rows < 32 * 32
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(twin(x), model(x), rtol=1e-4, atol=1e-5)


def test_mixed_outputs_are_a_mixed_kernel() -> None:
    conv = DynamicConv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False)
    nn.init.normal_(conv.attention.fc2.weight, std=30)
    x = torch.randn(3, 8, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(MixedOutputs(conv)(x), conv(x), rtol=1e-4, atol=1e-5)
