"""Which stretches are put in bands, and in how many."""

from __future__ import annotations

from sapool.cost.bands.net import Net, Operator, Value
from sapool.cost.bands.search import as_it_stands, in_bands
from tests.cost.bands.nets import Builder


def wide() -> Net:
    """A wide map between narrow ones, and behind them what can't be in bands."""
    builder = Builder(32, 256)
    builder.window(2048)
    builder.window(2048, 3)
    builder.window(256)
    net = builder.net()
    tokens = Operator("tokens", "reshape", (3,), (4,))
    return Net((*net.tensors, Value(8192)), (*net.operators, tokens), net.inputs, (4,))


def test_the_arena_is_made_smaller_where_it_is_large() -> None:
    net = wide()
    plain, found = as_it_stands(net), in_bands(net)
    assert str(plain) == ""
    assert plain.head == 2 * 32 * 2048
    assert found.head + found.growth < plain.head / 2
    assert [(stretch.start, stretch.stop) for stretch in found.stretches] == [(0, 3)]
    assert str(found) == f"3 of 4 operations in a stretch of up to {found.stretches[0].bands} bands of rows"


def test_a_budget_takes_no_more_bands_than_it_needs() -> None:
    net = wide()
    plain = as_it_stands(net)
    assert in_bands(net, plain.head).stretches == ()
    some, more = in_bands(net, plain.head - 1), in_bands(net, plain.head // 3)
    assert plain.head > some.head > more.head
    assert more.head <= plain.head // 3
    assert 0 < some.growth < more.growth
    assert some.stretches[0].bands == 2


def test_a_budget_that_nothing_meets_gets_the_least_there_is() -> None:
    net = wide()
    least = in_bands(net, 1)
    assert least.head <= in_bands(net).head
    assert least.head >= 2 * 8192  # what can't be in bands holds that


def test_a_budget_may_be_for_the_whole_arena() -> None:
    net = wide()
    plain = as_it_stands(net)
    found = in_bands(net, plain.head, own=1000)  # it would fit without the runtime's own part
    assert found.stretches
    assert found.head + found.growth + 1000 <= plain.head


def test_what_saves_nothing_is_left_alone() -> None:
    builder = Builder(8, 16)
    builder.window(16, 3)
    builder.window(16, 3)
    assert in_bands(builder.net()).stretches == ()
