"""Attention in groups of heads: the same numbers and parameters, fewer bytes, and only where that is so."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import sapool
from sapool.analysis.trace import trace
from sapool.cost.assumptions import Assumptions
from sapool.cost.unroll import unroll
from sapool.poolings.self_attentive import SelfAttentivePool
from sapool.schedule.embedded import Embedded
from sapool.schedule.execution import Execution, tensors_of
from sapool.schedule.heads.groups import excess, ladder
from sapool.schedule.heads.split import attentions, split
from sapool.schedule.planner import plan
from tests.schedule.support import Weighing, distance, image


def weighted() -> nn.Module:
    """A map of 16 channels and 16×16 pixels, weighed by four heads of attention over its pixels and then averaged."""
    torch.manual_seed(0)
    pool = SelfAttentivePool(16, 2, heads=4, embedding=16, window=False)
    nn.init.normal_(pool.attention.in_proj_bias)
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), pool).eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return weighted()


@pytest.fixture(scope="module")
def graph(model: nn.Module) -> fx.GraphModule:
    return unroll(trace(model), 32, 32)


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12, 16, 32, 64])
def test_groups(heads: int) -> None:
    """More groups hold less, down to what no cut goes below: some are done when the last take the tokens' place."""
    rungs = ladder(heads)
    assert rungs[0] == (heads,)
    assert all(sum(groups) == heads and min(groups) > 0 for groups in rungs)
    assert all(len(one) < len(two) and excess(one) > excess(two) for one, two in pairwise(rungs))
    assert excess((heads,)) == 2 * heads
    assert excess(rungs[-1]) >= 2 * heads / 3
    assert len(rungs) <= 10


def test_groups_by_hand() -> None:
    assert ladder(2) == ((2,), (1, 1))
    # While the second head of four is weighed, the outputs of two are there and its keys and values: as much as the
    # queries, keys and values of the other two without their tokens.
    assert excess((1, 1, 2)) == 4
    assert excess((1, 3)) == excess((3, 1)) - 3 == 6
    assert ladder(8)[-1] == (1, 2, 1, 1, 3)


@pytest.mark.parametrize("groups", [(1, 3), (2, 2), (1, 1, 2), (1, 1, 1, 1)])
def test_split_is_exact(model: nn.Module, graph: fx.GraphModule, groups: tuple[int, ...]) -> None:
    before = str(graph.graph)
    cut = split(graph, [groups])
    assert str(graph.graph) == before
    names = [node.name for node in cut.graph.nodes]
    assert [name for name in names if name.startswith("heads_0_attention")] == [
        f"heads_0_attention_{at}" for at in range(len(groups))
    ]
    assert sum(node.meta.get("macs", 0) for node in cut.graph.nodes) == sum(
        node.meta.get("macs", 0) for node in graph.graph.nodes
    )
    assert {node.target for node in cut.graph.find_nodes(op="get_attr")} == {
        node.target for node in graph.graph.find_nodes(op="get_attr")
    }
    x = image(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x)
        torch.testing.assert_close(copy.deepcopy(cut).double()(x), expected, rtol=0, atol=1e-14)


def test_one_group_is_the_graph_itself(graph: fx.GraphModule) -> None:
    assert split(graph, [(4,)]) is graph
    assert split(graph, []) is graph


class Other(nn.Module):
    """Attention whose queries aren't projected with its keys and values."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2).unflatten(2, (1, 3)).transpose(1, 2)
        return F.scaled_dot_product_attention(tokens, tokens.sin(), tokens.cos())


def test_other_attention_is_left_alone() -> None:
    assert attentions(unroll(fx.symbolic_trace(Other()), 8, 8)) == []


def test_a_schedule_in_groups_is_what_execution_sees(model: nn.Module, graph: fx.GraphModule) -> None:
    """The tokens, the map that waits for its weights, and a whole map of heads; together, heads take two of them."""
    schedule = plan(graph, Assumptions("fp32"), seconds=0.2)
    assert schedule.groups == ((1, 1, 2),)
    size = 16 * 16 * 16 * 4
    assert 3 * size < schedule.peak < 3.2 * size
    assert schedule.plain_peak > 5 * size
    assert schedule.order_peak <= 4 * size
    x = image(1, 3, 32, 32)
    weighing, embedded = Weighing(schedule, graph), Embedded(schedule, graph)
    with torch.no_grad():
        assert distance(model(x), weighing.run(x)) <= 1e-6
        assert torch.equal(embedded.run(x), Execution(schedule, tensors_of(graph)).run(x))
    assert weighing.seen[1:] == embedded.seen[1:] == [move.live for move in schedule.moves[1:]]
    assert embedded.arena.numel() * 4 == schedule.arena


def test_streamed_in_groups(model: nn.Module) -> None:
    """The same keys, outputs and gradients; each multiply-accumulate once; batches of any size."""
    model = copy.deepcopy(model).double()
    streamed = sapool.stream(model, image_size=32, seconds=0.2)
    assert streamed.schedule.groups
    assert list(streamed.state_dict()) == list(model.state_dict())
    x = image(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad(), FlopCounterMode(display=False) as one:
        expected = model(x)
    with torch.no_grad(), FlopCounterMode(display=False) as two:
        torch.testing.assert_close(streamed(x), expected, rtol=0, atol=1e-14)
    assert one.get_total_flops() == two.get_total_flops()
    found = []
    for module in (model, streamed):
        module.zero_grad()
        module(x).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in module.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_heads_stay_together_where_something_else_holds_more() -> None:
    wide = nn.Conv2d(3, 64, 1), nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.Conv2d(64, 3, 3, 3, 24)
    schedule = plan(unroll(trace(nn.Sequential(*wide, weighted())), 32, 32), seconds=0.2)
    assert schedule.groups == ()


def test_budgets_take_heads_apart_last(graph: fx.GraphModule) -> None:
    together, apart = plan(graph, budget=19_000, seconds=0.2), plan(graph, budget=15_000, seconds=0.2)
    assert together.groups == ()
    assert max(map(len, apart.groups)) > 1
    assert apart.arena <= 15_000
    assert plan(graph, budget=1_000, seconds=0.2).arena > 1_000
