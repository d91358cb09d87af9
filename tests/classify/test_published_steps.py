"""The published recipes' optimizers and schedules, against loops that are written out."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sapool.recipes.reading import read_recipe
from sapool.recipes.settings import Recipe
from sapool.training.optimizers import make_optimizer, make_schedule

STEPS = 10


def published_rates(told: int, steps: int, rate: float = 0.01) -> Iterator[float]:
    """The rate of each step: epochs are counted from 1 and the last one told isn't run (semantics §7)."""
    falls = [int(part * told) for part in (0.6, 0.8, 0.9)]
    for epoch in range(1, told):
        if epoch in falls:
            rate /= 5
        for _ in range(steps):
            yield rate


def recipe_of(name: str, *overrides: str) -> Recipe:
    recipe = read_recipe(name, overrides)
    assert isinstance(recipe, Recipe)
    return recipe


@pytest.mark.parametrize("name", ["stl10", "stl10-val", "imagenet-published"])
@pytest.mark.parametrize("told", [300, 600])
def test_the_rate_falls_before_the_published_epochs(name: str, told: int) -> None:
    recipe = recipe_of(name, f"train.epochs={told - 1}")
    weight, steps = nn.Parameter(torch.zeros(1)), 3
    optimizer = make_optimizer([weight], recipe.optimizer)
    schedule = make_schedule(optimizer, recipe.schedule, recipe.train.epochs, steps)
    expected = list(published_rates(told, steps))
    assert len(expected) == recipe.train.epochs * steps
    for rate in expected:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-12)
        optimizer.step()
        schedule.step()
    if told == 300:
        assert [expected[steps * (epoch - 1)] for epoch in (179, 180, 239, 240, 269, 270, 299)] == pytest.approx(
            [1e-2, 2e-3, 2e-3, 4e-4, 4e-4, 8e-5, 8e-5]
        )


class Sgd:
    """Momentum without dampening: v ← 0.9·v + g, w ← w − rate·v."""

    def __init__(self) -> None:
        self.velocity: Tensor | float = 0.0

    def step(self, weight: Tensor, gradient: Tensor, rate: float) -> Tensor:
        self.velocity = 0.9 * self.velocity + gradient
        return weight - rate * self.velocity


class Amsgrad:
    """Reddi, Kale and Kumar, ICLR 2018, with Adam's correction of biases."""

    def __init__(self) -> None:
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.largest = torch.zeros(())
        self.count = 0

    def step(self, weight: Tensor, gradient: Tensor, rate: float) -> Tensor:
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        self.largest = torch.maximum(self.largest, self.second)
        root = (self.largest / (1 - 0.999**self.count)).sqrt() + 1e-8
        return weight - rate * self.first / (1 - 0.9**self.count) / root


@pytest.mark.parametrize("name", ["stl10", "imagenet-published"])
@pytest.mark.parametrize(("overrides", "literal"), [((), Sgd), (("optimizer.name=adam",), Amsgrad)])
def test_ten_steps(name: str, overrides: tuple[str, ...], literal: type[Sgd | Amsgrad]) -> None:
    # One step an epoch of ten: all three falls of the rate are among them.
    recipe = recipe_of(name, f"train.epochs={STEPS}", *overrides)
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(5, generator=generator, dtype=torch.float64)
    weight = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))
    mine, own = weight.detach().clone(), literal()
    optimizer = make_optimizer([weight], recipe.optimizer)
    schedule = make_schedule(optimizer, recipe.schedule, STEPS, 1)
    rates = [0.01 / 5 ** sum(step >= fall for fall in (6, 8, 9)) for step in range(STEPS)]
    for rate in rates:
        optimizer.zero_grad()
        ((weight - target) ** 4).sum().backward()
        optimizer.step()
        schedule.step()
        mine = own.step(mine, 4 * (mine - target) ** 3, rate)
        assert torch.allclose(weight.detach(), mine, rtol=1e-12, atol=0)
    assert math.isclose(rates[-1], 0.01 / 125)
