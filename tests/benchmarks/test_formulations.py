"""What the benchmark compares with computes what ours does; and the floor's arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import sapool
from benchmarks.floor import Rates, Work, twin, work
from benchmarks.former import GroupedConv, former
from benchmarks.plain import PlainPool, plain
from sapool.poolings.dynamic import DynamicConv2d
from sapool.poolings.self_attentive import SelfAttentivePool

LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[..., nn.Module], type[nn.Module]]] = {
    "dynamic": (lambda: DynamicConv2d(16, 24, 3, padding=1, kernels=3, temperature=2), former, GroupedConv),
    "strided": (lambda: DynamicConv2d(16, 24, 3, 2, bias=False), former, GroupedConv),
    "depthwise": (lambda: DynamicConv2d(16, 16, 3, padding=1, groups=16), former, GroupedConv),
    "pool": (lambda: SelfAttentivePool(16, 2, heads=2, embedding=8, patch=4), plain, PlainPool),
    "nowin": (lambda: SelfAttentivePool(16, 2, heads=2, embedding=8, window=False, exp=True), plain, PlainPool),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_baseline_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    layer, made, kind = LAYERS[name]
    model = nn.Sequential(nn.Conv2d(3, 16, 3), layer()).eval()
    other, x = made(model), torch.randn(2, 3, 18, 18)
    assert isinstance(other[1], kind)  # type: ignore[index]
    assert not isinstance(model[1], kind)
    expected, seen = model(x), other(x)
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)
    first = (network.get_parameter("0.weight") for network in (model, other))
    gradients = [
        torch.autograd.grad(out.square().mean(), each)[0] for out, each in zip((expected, seen), first, strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_what_a_network_computes_beyond_its_twin() -> None:
    text = "resnet18-nlp-1222"
    assert twin(text) == "resnet18-avgp-1222"
    with torch.device("meta"):
        found = work(*(sapool.compile(name, image_size=32) for name in (text, twin(text))))
    sites = ((64, 128, 8), (16, 256, 16), (4, 512, 32))  # tokens, channels, heads
    assert found.scores == sum(tokens**2 * channels for tokens, channels, _ in sites)
    assert found.exponentials == sum(heads * tokens**2 + 2 * channels * tokens for tokens, channels, heads in sites)
    # Embedding, three projections, the output's and restoring, all square, and attention's two products.
    assert found.products == sum(6 * tokens * channels**2 for tokens, channels, _ in sites) + 2 * found.scores


def test_seconds_at_given_rates() -> None:
    rates, beyond = Rates(products=1000, exponentials=10), Work(products=500, scores=100, exponentials=20)
    assert beyond.seconds(rates, 2, "forward") == pytest.approx(2 * (0.5 + 2))
    assert beyond.seconds(rates, 2, "step") == pytest.approx(2 * (1.6 + 4))
