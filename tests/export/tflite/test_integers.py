"""What makes integers near and small: ranges, one copy of tokens, conversions where they are due."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from sapool.errors import WorkError
from tests.export.tflite.models import Net, schema

pytest.importorskip("tflite_micro")
from sapool.export.tflite import flatbuffer
from sapool.export.tflite.conversion import quantize
from sapool.export.tflite.memory import head_of
from sapool.export.tflite.order import narrow_early
from sapool.export.tflite.ranges import ranges_of
from sapool.export.tflite.runtimes import LiteRT, run_micro
from sapool.export.tflite.tokens import share_tokens


def result(model: flatbuffer.Model, path: Path, images: torch.Tensor) -> torch.Tensor:
    path.write_bytes(flatbuffer.write(model))
    return LiteRT(path)(images)[0]


converter = pytest.mark.skipif(find_spec("ai_edge_quantizer") is None, reason="the extra tflite isn't installed")


@converter
def test_a_range_is_all_that_any_image_reaches() -> None:
    net = Net(1, 1, 1, 2)
    doubled = net.call("MUL", (1, 1, 1, 2), 0, net.tensor((), np.array(2, np.float32)), options="MulOptions")
    images = torch.zeros(40, 2, 1, 1)
    images[3, 0], images[7, 1] = -5, 9  # single images, of which a moving average keeps next to nothing
    found = ranges_of(net.model, images)
    name = flatbuffer.text(net.graph.tensors[doubled].name)
    assert (float(found[name]["min"][0]), float(found[name]["max"][0])) == (-10, 18)
    still = ranges_of(net.model, torch.zeros(2, 2, 1, 1))[name]
    assert still["min"][0] < still["max"][0]


def two_layouts() -> Net:
    """A map that two products read, as (4, 3) and as (1, 4, 3)."""
    net, numbers = Net(1, 2, 2, 3), np.random.default_rng(0)
    weights = [net.tensor((5, 3), numbers.normal(size=(5, 3)).astype(np.float32)) for _ in range(2)]
    flat = net.call("RESHAPE", (4, 3), 0, net.ints(4, 3), options="ReshapeOptions", newShape=[4, 3])
    first = net.call("FULLY_CONNECTED", (4, 5), flat, weights[0], -1, options="FullyConnectedOptions", keepNumDims=True)
    tokens = net.call("RESHAPE", (1, 4, 3), 0, net.ints(1, 4, 3), options="ReshapeOptions", newShape=[1, 4, 3])
    second = net.call(
        "FULLY_CONNECTED", (1, 4, 5), tokens, weights[1], -1, options="FullyConnectedOptions", keepNumDims=True
    )
    again = net.call("RESHAPE", (1, 4, 5), first, net.ints(1, 4, 5), options="ReshapeOptions", newShape=[1, 4, 5])
    net.call("ADD", (1, 4, 5), again, second, options="AddOptions")
    return net


@converter
def test_tokens_are_laid_out_once(tmp_path: Path) -> None:
    model, images = two_layouts().model, torch.randn(3, 3, 2, 2)
    before, held = result(model, tmp_path / "before.tflite", images), head_of(model).bytes
    share_tokens(model)
    kinds = [flatbuffer.code(model, operator) for operator in model.subgraphs[0].operators]
    assert kinds == ["RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED", "RESHAPE", "ADD"]
    assert torch.equal(before, result(model, tmp_path / "after.tflite", images))
    path, head = tmp_path / "after.tflite", head_of(model).bytes
    found = run_micro(path, images.permute(0, 2, 3, 1).numpy(), head)
    assert found.head == head <= held
    np.testing.assert_allclose(found.results.reshape(before.shape), before, atol=1e-5)


def mixture(tokens: int = 16) -> Net:
    """softmax(x) · V of an image of scores, (1, 1, tokens, tokens)."""
    net, numbers = Net(1, 1, tokens, tokens), np.random.default_rng(0)
    scores = net.call(
        "RESHAPE", (1, tokens, tokens), 0, net.ints(1, tokens, tokens), options="ReshapeOptions",
        newShape=[1, tokens, tokens],
    )  # fmt: skip
    values = net.tensor((8, tokens), numbers.normal(size=(8, tokens)).astype(np.float32))
    shares = net.call("SOFTMAX", (1, tokens, tokens), scores, options="SoftmaxOptions", beta=1.0)
    made = net.call(
        "FULLY_CONNECTED", (1, tokens, 8), scores, values, -1, options="FullyConnectedOptions", keepNumDims=True
    )
    net.call("BATCH_MATMUL", (1, tokens, 8), shares, made, options="BatchMatMulOptions")
    net.sign()
    return net


@converter
def test_a_divisor_of_zero_is_refused_in_a_sentence(tmp_path: Path) -> None:
    net = Net(1, 1, 1, 2)
    net.call("DIV", (1, 1, 1, 2), net.tensor((1, 1, 1, 2), np.ones((1, 1, 1, 2), np.float32)), 0, options="DivOptions")
    net.sign()
    images = torch.tensor([[0.001, 900.0], [900.0, 1.0]])[..., None, None]
    with pytest.raises(WorkError, match=r"LiteRT can't run the file: it divides by .* zero in 8 bits; write a .tflite"):
        result(quantize(net.model, images), tmp_path / "x.tflite", images)


@converter
def test_mixtures_take_their_weights_in_16_bits(tmp_path: Path) -> None:
    net, images = mixture(), torch.randn(16, 16, 1, 16)
    expected = result(net.model, tmp_path / "float.tflite", images)
    model = quantize(net.model, images)
    graph = model.subgraphs[0]
    product = next(operator for operator in graph.operators if flatbuffer.code(model, operator) == "BATCH_MATMUL")
    assert {flatbuffer.type_of(graph.tensors[int(i)]) for i in (*product.inputs, *product.outputs)} == {"INT16"}
    found = result(model, tmp_path / "int8.tflite", images)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    path, head = tmp_path / "int8.tflite", head_of(model).bytes
    runtime = LiteRT(path)
    micro = run_micro(path, runtime.integers(images[:2]), head)
    assert micro.head == head
    apart = micro.results.astype(int).ravel() - runtime.raw(images[:2])[0].astype(int).ravel()
    assert abs(apart).max() <= 1  # two runtimes round apart


def test_a_tensor_is_narrowed_where_it_is_made() -> None:
    net = Net(1, 64)
    wide = net.call("MUL", (1, 64), 0, 0, options="MulOptions")
    other = net.call("ADD", (1, 64), 0, 0, options="AddOptions")
    narrow = net.call("QUANTIZE", (1, 64), wide)
    net.graph.tensors[narrow].type = schema.TensorType.INT8
    net.call("CONCATENATION", (1, 128), narrow, other, options="ConcatenationOptions", axis=1)
    narrow_early(net.model)
    kinds = [flatbuffer.code(net.model, operator) for operator in net.graph.operators]
    assert kinds == ["MUL", "QUANTIZE", "ADD", "CONCATENATION"]
    net.graph.outputs = [wide, *net.graph.outputs]  # someone else reads the wide one: it is held anyhow
    net.graph.operators = [net.graph.operators[i] for i in (0, 2, 1, 3)]
    narrow_early(net.model)
    assert [flatbuffer.code(net.model, operator) for operator in net.graph.operators][1] == "ADD"
