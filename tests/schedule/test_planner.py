"""What planning promises: figures, budgets, never worse than plain, and a proof by running inside the arena."""

from __future__ import annotations

import functools
from itertools import permutations

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import sapool
from sapool.analysis.trace import trace
from sapool.catalogue.backbones import BACKBONES
from sapool.catalogue.builders import build
from sapool.cost.assumptions import Assumptions
from sapool.cost.memory import analyse, unroll_for_device
from sapool.cost.unroll import unroll
from sapool.errors import InputError
from sapool.schedule.embedded import Embedded
from sapool.schedule.execution import Execution, tensors_of
from sapool.schedule.heads.split import split
from sapool.schedule.machine import Machine
from sapool.schedule.moves import Region
from sapool.schedule.operations import network
from sapool.schedule.order import best_order
from sapool.schedule.planner import plan
from sapool.schedule.schedule import Schedule
from tests.schedule.support import Weighing, distance, folded, image, network_of
from tests.tiers import in_tiers

WITHOUT_IO = Assumptions(io=False)
FP32 = Assumptions(dtype="fp32")


@functools.cache
def unrolled(text: str) -> fx.GraphModule:
    with torch.device("meta"):
        model = sapool.compile(text)
    return unroll_for_device(model, model.plan)


@pytest.mark.parametrize(
    ("text", "assumptions", "input_by_rows", "most"),
    [
        ("mobilenet-skip-1222121", Assumptions(), False, 330_000),
        ("mobilenet-skip-1222121", Assumptions(), True, 242_000),
        ("mobilenet-skip-1222121", Assumptions(io=False, inplace_depthwise=True), False, 172 * 1024),
        ("mobilenet-skip-4222121", Assumptions(), False, 174_720),
        ("mobilenet-skip-4222121", Assumptions(), True, 35_280),
        ("resnet18-skip-1222", Assumptions(), False, 350_000),
        ("mobilenet_v2-nlp_headfix2_nowin_reduced-4222121", WITHOUT_IO, False, 68_400),
        (
            "prepool-nlp_headfix2_nowin_reduced-4-resnet18-nlp_headfix2_nowin_reduced-1222",
            Assumptions(),
            False,
            716_000,
        ),
        ("resnet18-nlp-1222", Assumptions(), False, 1_200_000),
    ],
)
def test_figures(text: str, assumptions: Assumptions, input_by_rows: bool, most: int) -> None:
    graph = unrolled(text)
    schedule = plan(graph, assumptions, input_by_rows=input_by_rows)
    assert schedule.peak <= schedule.bound <= schedule.arena <= most
    assert schedule.plain_peak == analyse(graph, assumptions).peak or assumptions.inplace_depthwise
    assert schedule.macs == sum(node.meta.get("macs", 0) for node in graph.graph.nodes)


@pytest.mark.parametrize("name", ["mnasnet1_0", "densenet121"])
def test_plain_arenas_meet_their_bound(name: str) -> None:
    with torch.device("meta"):
        model = sapool.compile(f"{name}-skip-{BACKBONES[name].strides}")
    memory = analyse(unroll_for_device(model, model.plan), Assumptions())
    assert memory.arena == memory.peak


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "densenet121", "regnet_y_1_6gf"])
def test_backbones_gain(name: str) -> None:
    with torch.device("meta"):
        graph = unroll(trace(build(name, 1000), name), 224, 224)
    schedule = plan(graph)
    assert schedule.arena < schedule.plain_peak


PROVED = (
    "resnet18-skip-1222",
    "mobilenet-skip-2222121",
    "mobilenet_v3_small-skip-22121111211",
    "shufflenet_v2_x0_5-lip-222",
    "resnet18-nlp_reduced-1222",
    "resnet18-dfmixp_reduced-2222",
    "dymobilenet-maxp-1222121",
    "prepool-gaussian_pool-2-resnet18-attnpool-1222",
)


@pytest.mark.parametrize("text", in_tiers(PROVED, ["resnet18-skip-1222", "dymobilenet-maxp-1222121"]))
@pytest.mark.parametrize("in_place", [False, True])
def test_a_schedule_is_what_execution_sees(text: str, in_place: bool) -> None:
    """Rows are freed at their last use, and everything lies in one arena of the size that was said."""
    graph, x = folded(network_of(text, 64), 64, 64), image(1, 3, 64, 64)
    schedule = plan(graph, Assumptions("fp32", inplace_depthwise=in_place), input_by_rows=in_place, seconds=0.5)
    weighing, embedded = Weighing(schedule, graph), Embedded(schedule, graph)
    with torch.no_grad():
        expected = graph(x)
        assert distance(expected, weighing.run(x)) <= 1e-6
        assert torch.equal(embedded.run(x), Execution(schedule, tensors_of(graph)).run(x))
    moves = schedule.moves[1:]
    if not in_place:  # a smaller row may lie in a larger one's storage, which weighs more than the row
        assert weighing.seen[1:] == [move.live for move in moves]
    assert embedded.seen[1:] == [move.live for move in moves]
    assert embedded.arena.numel() * 4 == schedule.arena >= schedule.peak == max(move.total for move in moves)


def test_an_arena_that_is_too_small_is_noticed() -> None:
    """Two rows laid on top of each other change the result: the proof can fail."""
    graph, x = folded(network_of("resnet18-skip-1222", 64), 64, 64), image(1, 3, 64, 64)
    schedule = plan(graph, FP32, seconds=0.5)
    embedded = Embedded(schedule, graph)
    offsets = sorted(set(embedded.places.values()))
    embedded.places = {name: offset if offset < offsets[-1] else 0 for name, offset in embedded.places.items()}
    with torch.no_grad():
        assert not torch.equal(embedded.run(x), Execution(schedule, tensors_of(graph)).run(x))


class Chain(nn.Module):
    """Two 3×3 convolutions of stride 1, four channels to eight, and a max-pool."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.two(self.one(x).relu()), 2)


def test_line_buffers_by_hand() -> None:
    graph = unroll(fx.symbolic_trace(Chain()), 10, 10)
    net = network(graph, Assumptions())
    assert [(o.name, o.rows, o.row_size) for o in net.operations] == [
        ("x", 10, 40), ("conv2d", 10, 80), ("conv2d_1", 10, 80), ("max_pool2d", 5, 40),
    ]  # fmt: skip
    schedule = Schedule.of(graph, Assumptions(), range(4), [Region(1, 4, 10)])
    # Row 7 of the second convolution: the input, rows 6 to 8 of the first map, 6 and 7 of the second, and three rows of
    # the output. Of the maps' last rows less is needed, though there is a row of the output more.
    rows = {move.operation: [] for move in schedule.moves}
    for move in schedule.moves:
        rows[move.operation].append((move.start, move.stop))
    assert rows[1] == rows[2] == [(row, row + 1) for row in range(10)]
    assert schedule.peak == 400 + 3 * 80 + 2 * 80 + 3 * 40
    by_rows = Schedule.of(graph, Assumptions(), range(4), [Region(1, 4, 10)], input_by_rows=True)
    assert [(m.operation, m.start, m.live) for m in by_rows.moves[:4]] == [
        (0, 0, 40), (0, 1, 80), (1, 0, 80 + 80), (0, 2, 40 * 3 + 80),
    ]  # fmt: skip
    assert by_rows.moves[-1].live == 2 * 80 + 5 * 40
    assert by_rows.peak == 2 * 40 + 3 * 80 + 2 * 80 + 3 * 40
    plain = Schedule.of(graph, Assumptions(), range(4), [Region(at, at + 1) for at in (1, 2, 3)])
    assert [move.live for move in plain.moves[1:]] == [1200, 1600, 1000]


class Forks(nn.Module):
    """Three branches of different widths from one map: their order decides the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.wide, self.narrow, self.middle = nn.Conv2d(4, 40, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 20, 1)
        self.small = nn.Conv2d(40, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        middle, narrow, wide = self.middle(x), self.narrow(x), self.small(self.wide(x))
        return torch.cat([wide, narrow, middle], 1)


def test_the_best_order_is_the_best() -> None:
    graph = unroll(fx.symbolic_trace(Forks()), 6, 6)
    net, assumptions = network(graph, Assumptions()), Assumptions()
    found = best_order(net, assumptions)

    def peak(order: tuple[int, ...]) -> int:
        return Machine(net, order, assumptions).run([Region(at, at + 1) for at in range(1, len(order))])

    legal = []
    for order in permutations(range(1, len(net.operations))):
        place = {number: at for at, number in enumerate((0, *order))}
        if all(place[source] < place[n] for n in order for source in net.operations[n].reads):
            legal.append(peak((0, *order)))
    assert found.proved
    assert found.peak == peak(found.order) == min(legal) < peak(tuple(range(len(net.operations))))


def test_orders_of_attention() -> None:
    """Heads together, the local weight of mixp can wait until attention is done, and nothing in nlp can."""
    for text, peak in (("resnet18-mixp-1222", 2_010_176), ("resnet18-nlp-1222", 2_010_176)):
        graph = unrolled(text)
        found = best_order(network(graph, Assumptions()), Assumptions())
        assert (found.peak, found.proved) == (peak, True)
    apart = split(graph, [(1, 2, 1, 1, 3), (16,), (32,)])
    found = best_order(network(apart, Assumptions()), Assumptions())
    assert found.proved
    assert found.peak <= 1_606_144


def test_budgets_take_what_they_need() -> None:
    graph = unrolled("mobilenet-skip-1222121")
    plain = plan(graph, budget=1_505_280)
    assert (plain.streamed, plain.arena) == ((), 1_505_280)
    few, many = plan(graph, budget=800_000), plan(graph, budget=300_000)
    assert few.arena <= 800_000
    assert many.arena <= 300_000
    assert len(plain.moves) < len(few.moves) < len(many.moves)
    assert plan(graph, budget=10_000).arena > 10_000, "the lowest there is, for the caller to refuse"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 1, "bands": 2}, "give one of them"),
        ({"bands": 0}, "bands: expected"),
        ({"budget": -5}, "budget: exp"),
    ],
)
def test_refusals(arguments: dict[str, int], message: str) -> None:
    graph = unroll(fx.symbolic_trace(Chain()), 10, 10)
    with pytest.raises(InputError, match=message):
        plan(graph, **arguments)  # type: ignore[arg-type]


def test_a_busy_machine_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is told by steps: a search that is cut off is cut off at the same place however long it took."""
    graph = unrolled("resnet18-mixp-1222")
    first = plan(graph, seconds=0.01)
    monkeypatch.setattr("time.monotonic", iter(range(0, 10**9, 1000)).__next__)
    assert plan(graph, seconds=0.01).regions == first.regions
    monkeypatch.undo()
    assert plan(graph, seconds=2.0).peak <= first.peak
