"""What bands compute is what the net computes, and what they hold is counted."""

from __future__ import annotations

import pytest
import torch

from sapool.cost.arena import lower_bound
from sapool.cost.bands.net import Net
from sapool.cost.bands.script import JOIN, JOINED, SLICE, Script, Stretch
from tests.cost.bands.nets import Builder, computed


def block() -> Net:
    """Two windows around a wide map, a shortcut around both, and a stride."""
    builder = Builder(24, 16)
    start = builder.window(16, 3, 2)
    builder.window(96)
    builder.window(96, 3)
    end = builder.window(16)
    builder.add(start, end)
    builder.window(96)
    builder.window(96, 3, 2)
    builder.window(32)
    return builder.net()


@pytest.mark.parametrize("stretch", [(0, 8), (1, 5), (1, 8), (2, 4), (0, 1), (5, 7)])
@pytest.mark.parametrize("bands", [2, 3, 6])
def test_bands_compute_the_same(stretch: tuple[int, int], bands: int) -> None:
    net = block()
    plain, script = Script.of(net, ()), Script.of(net, (Stretch(*stretch, bands),))
    assert plain is not None
    assert script is not None
    (output,) = net.outputs
    torch.testing.assert_close(computed(script)[output], computed(plain)[output])
    assert max(script.held(net.inputs, net.outputs)) == lower_bound(script.buffers())


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 1), (3, 2), (5, 2), (3, 3), (1, 2)])
def test_every_window_can_be_in_bands(kernel: int, stride: int, same: bool) -> None:
    builder = Builder(25, 16)
    builder.window(16, 3, 1, same=same)
    builder.window(64)
    builder.window(64, kernel, stride, same=same)
    builder.window(16, 3, 1, same=same)
    net = builder.net()
    plain, script = Script.of(net, ()), Script.of(net, (Stretch(0, 4, 3),))
    assert plain is not None
    assert script is not None
    torch.testing.assert_close(computed(script)[net.outputs[0]], computed(plain)[net.outputs[0]])


def test_a_stretch_has_as_many_results_as_are_read() -> None:
    builder = Builder(16, 16)
    builder.window(64, 3)
    pooled = builder.window(16, 2, 2, same=False, source=1)
    fewer = builder.window(16, 4, 4, same=False, source=1)
    net = builder.net(pooled, fewer)
    plain, script = Script.of(net, ()), Script.of(net, (Stretch(0, 3, 4),))
    assert plain is not None
    assert script is not None
    for output in net.outputs:
        torch.testing.assert_close(computed(script)[output], computed(plain)[output])


def test_few_bands_are_joined_at_a_time() -> None:
    builder = Builder(25, 16)
    builder.window(64, 3)
    builder.window(16, 3)
    net = builder.net()
    plain, script = Script.of(net, ()), Script.of(net, (Stretch(0, 2, 25),))
    assert plain is not None
    assert script is not None
    torch.testing.assert_close(computed(script)[2], computed(plain)[2])
    joined = [len(step.reads) for step in script.steps if step.kind == JOIN]
    assert len(joined) > 1
    assert max(joined) <= JOINED


def test_what_is_narrow_is_sliced() -> None:
    net = block()
    script = Script.of(net, (Stretch(1, 4, 3),))
    assert script is not None
    sliced = {script.values[step.reads[0]].tensor for step in script.steps if step.kind == SLICE}
    assert {net.tensors[number].size // net.tensors[number].rows for number in sliced} == {16}
