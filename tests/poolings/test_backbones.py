"""Every pooling in three backbones: shapes of even and odd maps, copies, files, compilation, costs as executed."""

from __future__ import annotations

import copy
import pickle
from math import prod

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import sapool
from sapool.catalogue.poolings import POOLINGS
from sapool.cost.assumptions import Assumptions
from sapool.cost.lifetimes import Lifetimes
from sapool.cost.memory import analyse
from sapool.cost.unroll import unroll
from sapool.passes.inference.fold_norms import fold_norms
from sapool.passes.record import Log
from sapool.poolings import Pooling
from tests.cost.execution import Execution
from tests.tiers import in_tiers

KINDS = [kind.name for kind in POOLINGS.values() if kind.rank < 20 and kind.target]
"""All but the ablations of `nlp`, which differ by a layer, and those that packages of the tests bring."""

BACKBONES = {"resnet18": "1222", "mobilenet_v2": "1222121", "timm:test_resnet": "1222"}
SIZE, FP32 = 64, Assumptions(dtype="fp32")


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """Small networks don't gain by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("backbone", in_tiers(BACKBONES, (), ["resnet18", "mobilenet_v2"]))
@pytest.mark.parametrize("kind", KINDS)
def test_a_pooling_in_a_backbone(kind: str, backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backbone.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    model = sapool.compile(f"{backbone}-{kind}-{BACKBONES[backbone]}", num_classes=3, image_size=SIZE)
    sites = [site for site in model.plan.sites if site.kind != "skip"]
    assert {site.kind for site in sites} == {kind}
    assert len(sites) == len([digit for digit in BACKBONES[backbone] if digit != "1"])

    model(torch.randn(2, 3, SIZE, SIZE)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad()
    model.eval()

    shapes = _pooled(model, (SIZE, SIZE)) + _pooled(model, (101, 77))
    assert any(side % 2 for before, _, _ in shapes for side in before)
    for before, after, stride in shapes:
        rounded = -1 if POOLINGS[kind].filters else 1
        assert after == tuple(rounded * (rounded * side // stride) for side in before)

    x = torch.randn(1, 3, SIZE, SIZE)
    # The counter knows the products of attention's plain formula, without what narrow heads are filled up with on CPUs.
    monkeypatch.setattr("sapool.poolings.attention._NARROWEST_HEAD", 1)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x)
    monkeypatch.undo()
    assert counter.get_total_flops() == 2 * sapool.cost(model).total.macs
    with torch.no_grad():
        expected = model(x)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(x), expected)
        if backbone == "timm:test_resnet":  # tracing takes seconds, and the pool is the same
            torch.compiler.reset()
            torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), expected)
    _check_memory(model, x, expected)


def _pooled(model: sapool.CompiledModel, size: tuple[int, int]) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """(map, pooled map, stride) at every pool, for an image of a size."""
    found: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
    handles = [
        pool.register_forward_hook(
            lambda pool, args, y: found.append((tuple(args[0].shape[2:]), tuple(y.shape[2:]), pool.stride))
        )
        for pool in model.modules()
        if isinstance(pool, Pooling)
    ]
    with torch.no_grad():
        assert model(torch.randn(1, 3, *size)).isfinite().all()
    for handle in handles:
        handle.remove()
    assert len(found) == len(handles)
    return found


def _check_memory(model: sapool.CompiledModel, x: torch.Tensor, expected: torch.Tensor) -> None:
    """What is held at each operation is what the timeline says, and the result is the model's."""
    folded = copy.deepcopy(model)
    fold_norms(folded, model.plan, Log())
    graph = unroll(folded, *x.shape[2:])
    memory = analyse(graph, FP32)
    execution = Execution(graph, Lifetimes(graph, FP32))
    with torch.no_grad():
        result = execution.run(x.clone())
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert {step.node: step.live for step in memory.steps} == {s.node: execution.seen[s.node] for s in memory.steps}
    assert memory.arena >= memory.peak >= max(step.live for step in memory.steps) > 4 * prod(x.shape)
