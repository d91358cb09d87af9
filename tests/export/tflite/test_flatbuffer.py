"""What is done to a file besides converting: everything computes what it computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sapool.errors import WorkError
from tests.export.tflite.models import Net, padded_apart

pytest.importorskip("tflite_micro")
from sapool.export.tflite import flatbuffer
from sapool.export.tflite.additions import turn_image
from sapool.export.tflite.concatenation import split_concatenations
from sapool.export.tflite.memory import PLAN, add_plan, head_of
from sapool.export.tflite.runtimes import run_micro


def result(model: flatbuffer.Model, path: Path, images: torch.Tensor) -> torch.Tensor:
    path.write_bytes(flatbuffer.write(model))
    found = run_micro(path, images.permute(0, 2, 3, 1).numpy(), head_of(model).bytes)
    return torch.from_numpy(found.results).permute(0, 3, 1, 2)


def test_padding_and_layouts_that_cost_nothing_go(tmp_path: Path) -> None:
    model, images = padded_apart().model, torch.randn(3, 2, 8, 8)
    before = result(model, tmp_path / "before.tflite", images)
    flatbuffer.simplify(model)
    assert flatbuffer.operations(model) == ["CONV_2D", "MAX_POOL_2D"]
    assert len(model.subgraphs[0].tensors) == 5
    assert torch.equal(before, result(model, tmp_path / "after.tflite", images))


def test_padding_of_another_kind_stays() -> None:
    net = padded_apart()
    sides = next(o for o in net.graph.operators if flatbuffer.code(net.model, o) == "PAD").inputs[1]
    other = np.array([[0, 0], [0, 0], [1, 0], [1, 0]], np.int32)  # in front of the map, where SAME never pads alone
    net.model.buffers[net.graph.tensors[sides].buffer].data = np.frombuffer(other.tobytes(), np.uint8)
    flatbuffer.simplify(net.model)
    assert "PAD" in flatbuffer.operations(net.model)


def test_an_image_is_turned(tmp_path: Path) -> None:
    model, images = padded_apart().model, torch.randn(2, 2, 8, 8)
    before = result(model, tmp_path / "before.tflite", images.flip((2, 3)))
    turn_image(model)
    assert flatbuffer.is_turned(model)
    assert torch.equal(before, result(model, tmp_path / "after.tflite", images))


def test_outputs_are_taken_out_with_what_only_they_need() -> None:
    net = padded_apart()
    conv, pool = net.graph.operators[3], net.graph.operators[5]
    net.graph.outputs = [conv.outputs[0], pool.outputs[0]]
    flatbuffer.keep_outputs(net.model, 1)
    assert flatbuffer.operations(net.model) == ["CONV_2D", "PAD", "TRANSPOSE"]
    assert net.graph.outputs == [conv.outputs[0]]


def test_weights_behind_the_flatbuffer_come_inside() -> None:
    net = padded_apart()
    kernel = net.model.buffers[net.graph.tensors[net.graph.operators[3].inputs[1]].buffer]
    data, kernel.data = bytes(kernel.data), None
    kernel.offset, kernel.size = 0, len(data)
    raw = flatbuffer.write(net.model)
    kernel.offset = len(raw)
    raw = flatbuffer.write(net.model)
    kernel.offset = len(raw)
    read = flatbuffer.read(flatbuffer.write(net.model) + data)
    inside = [buffer for buffer in read.buffers if buffer.data is not None and bytes(buffer.data) == data]
    assert len(inside) == 1
    assert not inside[0].offset


def test_data_begin_where_tensors_may() -> None:
    net = padded_apart()
    kernel = bytes(net.model.buffers[net.graph.tensors[net.graph.operators[3].inputs[1]].buffer].data)
    assert flatbuffer.write(net.model).index(kernel) % flatbuffer.ALIGNMENT == 0


@pytest.mark.parametrize("simple", [False, True])
def test_the_head_is_what_the_runtime_allocates(simple: bool, tmp_path: Path) -> None:
    model = padded_apart().model
    if simple:
        flatbuffer.simplify(model)
    path, images = tmp_path / "x.tflite", torch.randn(2, 2, 8, 8)
    path.write_bytes(flatbuffer.write(model))
    conv = next(o for o in model.subgraphs[0].operators if flatbuffer.code(model, o) == "CONV_2D")
    kernel = torch.from_numpy(flatbuffer.values(model, int(conv.inputs[1]), np.float32).reshape(4, 3, 3, 2).copy())
    maps = F.conv2d(F.pad(images, (0, 1, 0, 1)), kernel.permute(0, 3, 1, 2), stride=2)
    expected = F.max_pool2d(F.pad(maps, (0, 1, 0, 1), value=-torch.inf), 3, 2)
    head = head_of(model)
    found = run_micro(path, images.permute(0, 2, 3, 1).numpy(), head.bytes)
    assert found.head == head.bytes
    assert found.tail > sum(found.parts.values()) > 0
    assert head.worst.operation == ("CONV_2D" if simple else "TRANSPOSE")
    np.testing.assert_allclose(found.results, expected.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_mirrored_padding_has_scratch(tmp_path: Path) -> None:
    net = Net(1, 4, 4, 8)
    sides = net.ints([0, 0], [1, 1], [0, 1], [0, 0])
    padded = net.call("MIRROR_PAD", (1, 6, 5, 8), 0, sides, options="MirrorPadOptions", mode=0)
    net.call("MUL", (1, 6, 5, 8), padded, padded, options="MulOptions")
    path, head = tmp_path / "x.tflite", head_of(net.model)
    path.write_bytes(flatbuffer.write(net.model))
    assert [step.bytes for step in head.steps] == [512 + 960 + 2 * 16, 2 * 960]
    image = np.arange(128, dtype=np.float32).reshape(1, 4, 4, 8)
    found = run_micro(path, image, head.bytes)
    assert found.head == head.bytes
    np.testing.assert_array_equal(found.results, np.pad(image, ((0, 0), (1, 1), (0, 1), (0, 0)), "reflect") ** 2)


def test_a_runtime_that_dies_is_an_error(tmp_path: Path) -> None:
    net = Net(1, 4)
    net.call("CUSTOM", (1, 4), 0)
    path = tmp_path / "x.tflite"
    path.write_bytes(flatbuffer.write(net.model))
    with pytest.raises(WorkError, match=r"can't run the file: it (died|refuses)"):
        run_micro(path, np.zeros((1, 4), np.float32), 64)


def test_a_plan_in_the_file_is_followed(tmp_path: Path) -> None:
    model, path = padded_apart().model, tmp_path / "x.tflite"
    flatbuffer.simplify(model)
    assert not add_plan(model)  # the runtime's own is as small as can be
    offsets = [1024, *(-1 for _ in model.subgraphs[0].tensors[1:])]
    numbers = np.array([1, 0, len(offsets), *offsets], np.int32)
    flatbuffer.add_metadata(model, [(PLAN, numbers.tobytes())])
    path.write_bytes(flatbuffer.write(model))
    head = head_of(flatbuffer.read(path.read_bytes()))
    assert head.bytes == 1024 + 512
    assert run_micro(path, np.zeros((1, 8, 8, 2), np.float32), 4096).head == head.bytes


def test_many_tensors_are_joined_few_at_a_time(tmp_path: Path) -> None:
    net = Net(1, 4)
    parts = [
        net.call("MUL", (1, 4), 0, net.tensor((), np.array(k, np.float32)), options="MulOptions") for k in range(23)
    ]
    net.call("CONCATENATION", (1, 92), *parts, options="ConcatenationOptions", axis=1)
    before = net.graph.outputs
    split_concatenations(net.model)
    joined = [o for o in net.graph.operators if flatbuffer.code(net.model, o) == "CONCATENATION"]
    assert [len(o.inputs) for o in joined] == [10, 10, 3, 3]
    assert net.graph.outputs == before
    path = tmp_path / "x.tflite"
    path.write_bytes(flatbuffer.write(net.model))
    found = run_micro(path, np.ones((1, 4), np.float32), head_of(net.model).bytes)
    np.testing.assert_array_equal(found.results[0], np.repeat(np.arange(23), 4))
    assert found.head == head_of(net.model).bytes
