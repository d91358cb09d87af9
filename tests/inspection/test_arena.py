"""Rectangles of memory: they are what the cost is counted from, don't overlap, and know whose they are."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from sapool.compiler import execute
from sapool.inspection.network import Network, look_at
from sapool.inspection.owners import Arena, Placed, owners
from sapool.model import CompiledModel
from sapool.planning import make_plan


@pytest.fixture(scope="module")
def model() -> CompiledModel:
    with torch.device("meta"):
        return execute(make_plan("mobilenet-lip-1222121", image_size=64))


@pytest.fixture(scope="module")
def network(model: CompiledModel) -> Network:
    return look_at(model)


@pytest.mark.parametrize("number", [0, 1])
def test_no_two_buffers_lie_in_one_place_at_one_time(network: Network, number: int) -> None:
    arena = network.arenas[number]
    assert max(buffer.offset + buffer.size for buffer in arena.buffers) <= arena.size
    for one, other in combinations(arena.buffers, 2):
        together = one.first <= other.last and other.first <= one.last
        assert not together or one.offset + one.size <= other.offset or other.offset + other.size <= one.offset


@pytest.mark.parametrize("number", [0, 1])
def test_what_lies_there_at_a_step_is_what_is_held(network: Network, number: int) -> None:
    arena: Arena = network.arenas[number]
    for at, step in enumerate(arena.steps):
        assert sum(buffer.size for buffer in arena.buffers if buffer.first <= at <= buffer.last) >= step.total
    assert max(step.total for step in arena.steps) == arena.peak


@pytest.mark.parametrize("number", [0, 1])
def test_every_buffer_is_some_nodes_and_every_node_of_the_model_is_known(
    network: Network, model: CompiledModel, number: int
) -> None:
    names = {node.name for node in model.graph.nodes}
    for buffer in network.arenas[number].buffers:
        assert buffer.writers
        assert set(buffer.writers) | set(buffer.readers) <= names | {"output"}


def test_streamed_it_takes_less(network: Network) -> None:
    plain, streamed = network.arenas
    assert streamed.size < plain.size
    assert {name: ours for name, ours, _ in network.figures}["arena, streamed, bytes"] == streamed.size


def test_what_has_no_buffer_is_done_in_that_of_the_node_before_it() -> None:
    buffers = [Placed("conv", 8, 0, 0, 1, ("conv",), ("relu",))]
    feeds = {"bn": "conv", "relu": "bn", "other": "x"}
    assert owners(["x", "conv", "bn", "relu", "other"], buffers, feeds) == {
        "x": "",
        "conv": "conv",
        "bn": "conv",
        "relu": "conv",
        "other": "",
    }
