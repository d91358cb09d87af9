"""Activation memory: known truths, tiny graphs by hand, and the timeline held to what really happens."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import sapool
from sapool.cost.arena import ALIGNMENT, Buffer, arena_size, greedy_by_size, lower_bound
from sapool.cost.assumptions import Assumptions
from sapool.cost.budget import parse_size
from sapool.cost.lifetimes import Lifetimes
from sapool.cost.memory import Memory, activation_memory, analyse
from sapool.cost.unroll import unroll
from sapool.passes.inference.fold_norms import fold_norms
from sapool.passes.record import Log
from tests.cost.execution import Execution, InArena

FP32 = Assumptions(dtype="fp32")


@pytest.mark.parametrize(
    ("text", "elements", "in_place"),
    [
        ("resnet18-skip-1222", 1_003_520, 1_003_520),
        ("resnet50-skip-1222", 1_806_336, 1_806_336),
        ("mobilenet-skip-1222121", 1_505_280, 1_404_928),
    ],
)
def test_known_truths(text: str, elements: int, in_place: int) -> None:
    with torch.device("meta"):
        model = sapool.compile(text)
    assert activation_memory(model, model.plan).peak == elements
    assert activation_memory(model, model.plan, Assumptions(inplace_depthwise=True)).peak == in_place
    assert activation_memory(model, model.plan, Assumptions(dtype="fp16")).peak == 2 * elements
    assert activation_memory(model, model.plan, FP32).peak == 4 * elements


def test_full_attention_holds_every_score() -> None:
    with torch.device("meta"):
        model = sapool.compile("prepool-nlp-4-resnet18-skip-1222", image_size=64)
    plan = model.plan
    tokens = plan.site("prepool").tokens
    assert tokens == 32 * 32

    def attention(assumptions: Assumptions) -> Any:
        steps = activation_memory(model, plan, assumptions).steps
        return next(step for step in steps if step.operation == "scaled_dot_product_attention")

    assert attention(Assumptions()).scratch == tokens
    assert attention(Assumptions(attention="full")).scratch == 8 * tokens**2


class Branches(nn.Module):
    """Two uses of one map, a view, an elementwise operation that may and one that may not work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)  # 3 + 4 planes
        z = y.sigmoid()  # y is needed below: 4 + 4
        w = z.flatten(2).exp()  # in place of z, through the view
        return (w + y.flatten(2)).relu()  # in place


def _profile(module: nn.Module, size: int, assumptions: Assumptions) -> tuple[fx.GraphModule, Memory]:
    graph = unroll(fx.symbolic_trace(module), size, size)
    return graph, analyse(graph, assumptions)


def test_branches_by_hand() -> None:
    _, memory = _profile(Branches(), 5, Assumptions())
    planes = [(step.operation, step.total // 25) for step in memory.steps]
    assert planes == [("conv2d", 7), ("sigmoid", 8), ("exp", 8), ("add", 8), ("relu", 4)]
    assert memory.peak == 8 * 25
    _, without = _profile(Branches(), 5, Assumptions(io=False))
    # Neither the input nor the output, which lies where z did.
    assert [step.total // 25 for step in without.steps] == [4, 4, 4, 4, 0]


def test_what_depends_on_weights_alone_is_a_weight() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table.exp().expand(3, 5, 5)

    _, memory = _profile(Positions(), 5, Assumptions())
    assert [(step.operation, step.total) for step in memory.steps] == [("add", 75)]


ARCHITECTURES = [
    "resnet18-skip-1222",
    "prepool-nlp-4-resnet18-nlp-1222",
    "resnet18-nlp_reduced-1222",
    "resnet18-mixp_nowin-1222",
    "resnet18-dfmixp_reduced-2222",
    "resnet18-attnpool-1222",
    "mobilenet_v2-lip-1222121",
    "mobilenet-gaussian_pool-1222121",
    "dymobilenet-maxp-1222121",
]


def _prepared(text: str) -> tuple[sapool.CompiledModel, fx.GraphModule]:
    model = sapool.compile(text, image_size=64, num_classes=10).eval()
    folded: Any = copy.deepcopy(model)
    fold_norms(folded, model.plan, Log())
    return model, unroll(folded, 64, 64)


@pytest.mark.parametrize("text", ARCHITECTURES)
def test_timeline_is_what_execution_sees(text: str) -> None:
    model, graph = _prepared(text)
    memory = analyse(graph, FP32)
    x = torch.randn(1, 3, 64, 64)
    execution = Execution(graph, Lifetimes(graph, FP32))
    with torch.no_grad():
        result, expected = execution.run(x.clone()), model(x)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert {step.node: step.live for step in memory.steps} == {s.node: execution.seen[s.node] for s in memory.steps}
    assert memory.peak >= max(step.live for step in memory.steps)


@pytest.mark.parametrize("text", ARCHITECTURES)
def test_runs_inside_one_arena(text: str) -> None:
    _, graph = _prepared(text)
    memory = analyse(graph, FP32)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        inside = InArena(graph, Lifetimes(graph, FP32), memory).run(x.clone())
        expected = Execution(graph, Lifetimes(graph, FP32)).run(x.clone())
    assert torch.equal(inside, expected)
    assert memory.arena >= memory.peak


@st.composite
def buffers(draw: st.DrawFn) -> list[Buffer]:
    spans = draw(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 8)), max_size=12))
    return [Buffer(str(i), size, first, first + length) for i, (size, first, length) in enumerate(spans)]


@settings(deadline=None)  # the first that isn't simple loads other packers
@given(buffers())
def test_no_two_buffers_overlap_in_space_and_time(wanted: list[Buffer]) -> None:
    size, placed = arena_size(wanted)
    assert sorted(b.name for b in placed) == sorted(b.name for b in wanted)
    for i, a in enumerate(placed):
        assert a.offset is not None
        assert a.offset % ALIGNMENT == 0
        assert a.offset + a.size <= size
        for b in placed[:i]:
            assert b.offset is not None
            together = a.first <= b.last and b.first <= a.last
            assert not together or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
    moments = [sum(b.size for b in wanted if b.first <= t <= b.last) for t in range(30)]
    assert size >= max(moments)


def test_packing_looks_at_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that greedy packers miss and the search doesn't, on a machine on which hours pass between two looks."""
    random = Random(1)
    wanted = []
    for i in range(30):
        first = random.randrange(20)
        wanted.append(Buffer(str(i), random.randrange(1, 60) * 16, first, first + random.randrange(9)))
    placed = arena_size(wanted)
    assert placed[0] == lower_bound(wanted) < greedy_by_size(wanted)
    monkeypatch.setattr("time.monotonic", iter(range(0, 10**9, 10_000)).__next__)
    assert arena_size(wanted) == placed


@pytest.mark.parametrize(
    ("text", "size"), [("256KB", 262144), ("256 kib", 262144), ("1.5MB", 1572864), ("1000", 1000), ("12 B", 12)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KB", "12 parsecs", "-1KB", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(sapool.InputError, match="isn't a size"):
        parse_size(text)


def test_unknown_assumptions() -> None:
    with pytest.raises(sapool.InputError, match="dtype: expected int8 or fp16 or fp32, not 'int4'"):
        Assumptions(dtype="int4")  # type: ignore[arg-type]
