"""Two identities of self-attentive pooling (§6): what may be done on the token grid, and what cancels."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.poolings.self_attentive import SelfAttentivePool
from tests import literal
from tests.poolings.cases import TOLERANCE, Case, assert_close, gradients

MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
SIZES = pytest.mark.parametrize("size", [(8, 12), (9, 11)], ids=["divisible", "uneven"])
ABLATIONS = ["nlp", "nlpnoexp", "nlpnosigmoid", "nlpnope", "nlpnobn1", "nlpnobn2"]


def oracle_of(pool: nn.Module, kind: str = "nlp") -> literal.SelfAttentive:
    oracle = literal.of(kind, pool)
    assert isinstance(oracle, literal.SelfAttentive)
    return oracle


# Restoring commutes with nearest-neighbour upsampling


@MODES
@SIZES
@pytest.mark.parametrize("patch", [2, 4])
def test_restoring_commutes_with_upsampling(size: tuple[int, int], patch: int, training: bool) -> None:
    case = Case("nlp", 2, size, patch)
    oracle = oracle_of(case.pool().train(training))
    tokens = oracle.tokens(case.map()).detach()
    fine = oracle.importance(literal.upsample(tokens, *size))
    coarse = literal.upsample(oracle.importance(tokens), *size)
    if training and size == (9, 11):
        # Border tokens stand for more pixels than others, so the batch statistics are not the same.
        assert (fine - coarse).abs().max() > 1e-3
    else:
        assert_close({"weight": coarse}, {"weight": fine})


@SIZES
@pytest.mark.parametrize("dynamic", [False, True], ids=["plain", "dy"])
@pytest.mark.parametrize("kind", ["nlp", "dfmnlp", "mixp", "dfmixp"])
@MODES
def test_weight_is_the_published_one(kind: str, size: tuple[int, int], dynamic: bool, training: bool) -> None:
    case = Case(kind, 2, size, patch=2, dynamic=dynamic)
    pool = case.pool().train(training)
    oracle = oracle_of(pool, kind)
    assert isinstance(pool, SelfAttentivePool)
    assert_close({"weight": pool.weight(case.map())}, {"weight": oracle.weight(case.map())})


@SIZES
@pytest.mark.parametrize("momentum", [0.1, 0.5, None], ids=str)
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_running_statistics_are_those_of_the_upsampled_map(
    size: tuple[int, int], patch: int, momentum: float | None
) -> None:
    """Also of a batch norm that averages over all batches, whose momentum is None."""
    case = Case("nlp", 2, size, patch)
    pool = case.pool()
    restore, norm = pool.get_submodule("restore"), pool.get_submodule("restore.1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.momentum = momentum
    published, oracle = deepcopy(restore), oracle_of(pool)
    for seed in range(2):
        x = case.map() + seed
        pool(x)
        published(literal.upsample(oracle.tokens(x), *size))
    assert_close(dict(restore.named_buffers()), dict(published.named_buffers()))


def test_statistics_are_left_alone_in_evaluation() -> None:
    case = Case("nlp", 2, (8, 12), 2)
    pool = case.pool().eval()
    before = {name: values.clone() for name, values in pool.named_buffers()}
    pool(case.map())
    assert all(torch.equal(values, before[name]) for name, values in pool.named_buffers())


# Window normalisation can cancel the attention


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("patch", "stride"), [(2, 2), (4, 2), (4, 4), (3, 3)], ids=str)
@pytest.mark.parametrize("kind", ABLATIONS)
def test_whole_windows_in_a_patch_are_averaged(kind: str, patch: int, stride: int, dtype: torch.dtype) -> None:
    case = Case(kind, stride, (12, 12), patch)
    x = case.map(dtype)
    average = F.avg_pool2d(x, stride)
    for pool in (case.pool(dtype), literal.of(kind, case.pool(dtype))):
        assert (pool(x) - average).abs().max() < 1e-6


@pytest.mark.parametrize(("patch", "stride"), [(2, 2), (4, 2), (4, 4), (3, 3)], ids=str)
@pytest.mark.parametrize("kind", ABLATIONS)
def test_nothing_is_learned_from_whole_windows_in_a_patch(kind: str, patch: int, stride: int) -> None:
    case = Case(kind, stride, (12, 12), patch)
    found = gradients(case.pool(), case.map())
    uncancelled = gradients(Case(kind, stride, (12, 12), patch, window=False).pool(), case.map())
    scale = largest(uncancelled, "attention")
    assert scale > 1
    for name, _ in case.pool().named_parameters():
        assert found[name].norm() < 1e-12 * scale, name


def largest(found: dict[str, Tensor], prefix: str) -> float:
    return max(float(gradient.norm()) for name, gradient in found.items() if name.startswith(prefix))


@pytest.mark.parametrize(("patch", "stride"), [(2, 2), (4, 2), (4, 4), (3, 3)], ids=str)
def test_mixed_pool_is_left_with_its_local_weight(patch: int, stride: int) -> None:
    """The attention's factor is constant in a window and cancels; the local one isn't and doesn't."""
    case = Case("mixp", stride, (12, 12), patch)
    pool, x = case.pool(), case.map()
    local = oracle_of(pool, "mixp").local(x).sigmoid().exp()
    expected = literal.average(x * local, stride) / literal.average(local, stride)
    assert_close({"y": pool(x)}, {"y": expected})
    assert (expected - F.avg_pool2d(x, stride)).abs().max() > 0.1
    found = gradients(pool, x)
    assert largest(found, "attention") < 1e-12 * largest(found, "local")


@pytest.mark.parametrize(
    "case",
    [
        Case("nlp", 2, (12, 12), 1),
        Case("nlp", 4, (12, 12), 2),
        Case("nlp", 2, (12, 12), 3),
        Case("nlp", 2, (9, 11), 2),
        Case("nlp", 2, (12, 12), 2, window=False),
        Case("dfmnlp", 2, (12, 12), 2),
        Case("dfmixp", 2, (12, 12), 2),
    ],
    ids=str,
)
def test_nothing_else_cancels(case: Case) -> None:
    found = gradients(case.pool(), case.map())
    assert (found["output"] - F.avg_pool2d(case.map(), case.stride)).abs().max() > 0.01
    assert largest(found, "attention") > 0.01 * found["input"].norm()
