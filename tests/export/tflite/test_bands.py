"""A file in bands of rows computes what it computed before, to the integer, and takes what is worked out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.export.tflite.models import Net, schema

pytest.importorskip("tflite_micro")
pytest.importorskip("ai_edge_quantizer")
from sapool.cost.bands.script import Script, Stretch
from sapool.cost.bands.search import in_bands
from sapool.errors import InputError, WorkError
from sapool.export.tflite import bands, flatbuffer
from sapool.export.tflite.conversion import quantize
from sapool.export.tflite.memory import add_plan, head_of
from sapool.export.tflite.runtimes import LiteRT, run_micro


def inverted() -> Net:
    """An image, a wide map between narrow ones with a shortcut around it, and a wide one that is pooled."""
    net = Net(1, 24, 24, 3)
    start = net.convolved(0, (1, 24, 24, 4), 3)
    wide = net.convolved(start, (1, 24, 24, 32), 1)
    wide = net.convolved(wide, (1, 24, 24, 32), 3, groups=32)
    end = net.convolved(wide, (1, 24, 24, 4), 1)
    both = net.call("ADD", (1, 24, 24, 4), start, end, options="AddOptions")
    wide = net.convolved(both, (1, 12, 12, 32), 3, stride=2)
    halves = {"padding": schema.Padding.SAME, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    net.call("MAX_POOL_2D", (1, 6, 6, 32), wide, options="Pool2DOptions", **halves)
    net.sign()
    return net


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("stretches", [[(1, 4, 8)], [(0, 5, 3), (5, 7, 2)], [(0, 7, 6)]])
def test_bands_compute_the_same_in_both_runtimes(
    integer: bool, stretches: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    model, images = inverted().model, torch.randn(4, 3, 24, 24)
    if integer:
        model = quantize(model, images)
    paths = tmp_path / "before.tflite", tmp_path / "after.tflite"
    paths[0].write_bytes(flatbuffer.write(model))
    script = Script.of(bands.net_of(model), [Stretch(*stretch) for stretch in stretches])
    assert script is not None
    held, head = max(script.held(script.net.inputs, script.net.outputs)), head_of(model).bytes
    bands.carry_out(model, script)
    paths[1].write_bytes(flatbuffer.write(model))
    expected, found = (LiteRT(path).raw(images)[0] for path in paths)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if integer else 1e-5 * np.abs(expected).max())
    assert head_of(model).worst.bytes == held
    shown = LiteRT(paths[0]).integers(images[:2])
    whole, micro = (run_micro(path, shown, head) for path in paths)
    assert micro.head == head_of(model).bytes < whole.head == head
    np.testing.assert_allclose(micro.results, whole.results, rtol=0, atol=0 if integer else 1e-5)


def test_the_arena_is_what_was_searched_for(tmp_path: Path) -> None:
    images = torch.randn(4, 3, 24, 24)
    model = quantize(inverted().model, images)
    whole = head_of(model).bytes
    expected = in_bands(bands.net_of(model), whole // 3)
    told = bands.lay_in_bands(model, whole // 3, images)
    assert told == str(expected) != ""
    add_plan(model)
    path = tmp_path / "x.tflite"
    path.write_bytes(flatbuffer.write(model))
    head = head_of(flatbuffer.read(path.read_bytes())).bytes
    assert run_micro(path, LiteRT(path).integers(images[:1]), head).head == head == expected.head <= whole // 3


def test_maps_that_nothing_makes_any_more_are_gone() -> None:
    model = inverted().model
    before = {flatbuffer.shape_of(tensor) for tensor in model.subgraphs[0].tensors}
    script = Script.of(bands.net_of(model), [Stretch(1, 4, 4)])
    assert script is not None
    bands.carry_out(model, script)
    assert (1, 24, 24, 32) in before
    assert (1, 24, 24, 32) not in {flatbuffer.shape_of(tensor) for tensor in model.subgraphs[0].tensors}


def test_what_cannot_be_met_is_refused() -> None:
    images = torch.randn(2, 3, 24, 24)
    with pytest.raises(WorkError, match=r"^budget: .* don't fit 100 bytes; in bands of rows they still take"):
        bands.lay_in_bands(inverted().model, 100, images)
    net = Net(1, 8, 8, 3)
    net.convolved(0, (1, 8, 8, 3), 3)
    with pytest.raises(InputError, match=r"^in bands of rows the network takes no less memory"):
        bands.lay_in_bands(net.model, None, images)
    assert bands.lay_in_bands(net.model, 10_000, images) == ""


def test_a_file_that_computes_something_else_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([[np.zeros(4, np.int8)], [np.ones(4, np.int8)]])
    monkeypatch.setattr(bands, "_results", lambda model, images: next(results))
    with pytest.raises(WorkError, match="in bands of rows it computes something else"):
        bands.lay_in_bands(inverted().model, None, torch.randn(2, 3, 24, 24))


def test_a_constant_that_has_rows_is_not_cut() -> None:
    net = Net(1, 8, 8, 3)
    net.call("ADD", (1, 8, 8, 3), 0, net.tensor((1, 8, 8, 3), np.ones((1, 8, 8, 3), np.float32)), options="AddOptions")
    net.call("MUL", (1, 8, 8, 3), 2, net.tensor((1, 1, 1, 3), np.ones((1, 1, 1, 3), np.float32)), options="MulOptions")
    found = bands.net_of(net.model)
    assert [found.banded(operator) for operator in found.operators] == [(), ()]
