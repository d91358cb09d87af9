"""The average by importance that training takes: what it computes, keeps and leaves to others."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sapool.poolings.lip import LocalImportancePool
from sapool.poolings.window import Importance, importance_average, weighted_average
from tests.poolings.cases import TOLERANCE

SIZES = pytest.mark.parametrize(("size", "stride"), [((4, 6), 2), ((5, 7), 2), ((6, 7), 3), ((3, 2), 1)])


def _inputs(size: tuple[int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, logit = (torch.randn(2, 3, *size, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.to(dtype).requires_grad_(), (3 * logit).to(dtype).requires_grad_()


@SIZES
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gradients_are_autograds(size: tuple[int, int], stride: int, dtype: torch.dtype) -> None:
    x, logit = _inputs(size, dtype)
    seen, plain = importance_average(x, logit, Importance(), stride), weighted_average(x, Importance()(logit), stride)
    assert torch.equal(seen, plain)
    assert "ExponentialAverage" in str(seen.grad_fn)
    dy = torch.randn(seen.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    for found, wanted in zip(
        torch.autograd.grad(seen, (x, logit), dy), torch.autograd.grad(plain, (x, logit), dy), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE[dtype])


@SIZES
def test_gradients_are_those_of_differences_twice(size: tuple[int, int], stride: int) -> None:
    def average(x: Tensor, logit: Tensor) -> Tensor:
        return importance_average(x, logit, Importance(), stride)

    assert torch.autograd.gradcheck(average, _inputs(size))
    assert torch.autograd.gradgradcheck(average, _inputs(size))


def test_only_the_map_the_sigmoids_and_the_result_are_kept() -> None:
    (x, logit), kept = _inputs((4, 6)), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = importance_average(x, logit, Importance(), 2)
    sigmoid = next(tensor for tensor in kept if torch.equal(tensor, logit.sigmoid()))
    assert {tensor.data_ptr() for tensor in kept} == {tensor.data_ptr() for tensor in (x, sigmoid, y)}


@pytest.mark.parametrize("importance", [Importance(exp=False), Importance(sigmoid=False), nn.Softplus()], ids=str)
def test_other_weights_go_step_by_step(importance: nn.Module) -> None:
    x, logit = _inputs((4, 6))
    y = importance_average(x, logit, importance, 2)
    assert torch.equal(y, weighted_average(x, importance(logit), 2))
    assert "ExponentialAverage" not in str(y.grad_fn)


def test_programs_hold_plain_operations_and_learn_the_same() -> None:
    torch.manual_seed(0)
    pool = LocalImportancePool(3, 2)
    x = torch.randn(2, 3, 4, 6, requires_grad=True)
    compiled = torch.compile(pool, backend="aot_eager", fullgraph=True)
    for found, wanted in pairwise(torch.autograd.grad(module(x).square().sum(), x)[0] for module in (pool, compiled)):
        torch.testing.assert_close(found, wanted)
    program = torch.export.export(pool.eval(), (x.detach(),))
    assert not [node for node in program.graph.nodes if "autograd" in str(node.target)]
    torch.testing.assert_close(program.module()(x.detach()), pool(x.detach()))


def test_mixed_precision() -> None:
    pool, x = LocalImportancePool(3, 2), torch.randn(2, 3, 4, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = pool(x)
    (gradient,) = torch.autograd.grad(y.float().square().sum(), x)
    assert gradient.dtype == torch.float32
    assert gradient.isfinite().all()
