"""Blocks of attention's weights are multiplied one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.tflite.models import Net

pytest.importorskip("tflite_micro")
from sapool.export.tflite import flatbuffer
from sapool.export.tflite.memory import head_of
from sapool.export.tflite.mixtures import mix_apart
from sapool.export.tflite.runtimes import run_micro


def joined(kind: str, heads: int = 2, tokens: int = 64) -> Net:
    """Of an image of scores, (1, heads, tokens, tokens): four blocks of rows, joined and then multiplied."""
    net, rows = Net(1, heads, tokens, tokens), tokens // 4
    numbers = np.random.default_rng(0).normal(size=(heads, tokens, 3)).astype(np.float32)
    values = net.tensor(numbers.shape, numbers)
    shape = (heads, tokens, tokens)
    scores = net.call("RESHAPE", shape, 0, net.ints(*shape), options="ReshapeOptions", newShape=list(shape))
    blocks = []
    for first in range(0, tokens, rows):
        part = net.call(
            "SLICE", (heads, rows, tokens), scores, net.ints(0, first, 0), net.ints(heads, rows, tokens),
            options="SliceOptions",
        )  # fmt: skip
        softmax = {"options": "SoftmaxOptions", "beta": 1.0} if kind == "SOFTMAX" else {}
        blocks.append(net.call(kind, (heads, rows, tokens), part, **softmax))
    whole = net.call("CONCATENATION", shape, *blocks, options="ConcatenationOptions", axis=1)
    net.call("BATCH_MATMUL", (heads, tokens, 3), whole, values, options="BatchMatMulOptions")
    return net


def test_blocks_are_multiplied_one_by_one(tmp_path: Path) -> None:
    model, path = joined("SOFTMAX").model, tmp_path / "x.tflite"
    images = np.random.default_rng(1).normal(size=(2, 2, 64, 64)).astype(np.float32)
    path.write_bytes(flatbuffer.write(model))
    before = run_micro(path, images, head_of(model).bytes)
    mix_apart(model)
    kinds = [flatbuffer.code(model, operator) for operator in model.subgraphs[0].operators]
    assert kinds == ["RESHAPE", *(["SLICE", "SOFTMAX", "BATCH_MATMUL"] * 4), "CONCATENATION"]
    path.write_bytes(flatbuffer.write(model))
    after = run_micro(path, images, head_of(model).bytes)
    np.testing.assert_allclose(after.results, before.results, atol=1e-6)
    assert after.head == head_of(model).bytes < before.head


def test_products_of_anything_else_stay() -> None:
    net = joined("LOGISTIC")
    before = list(flatbuffer.listing(net.model))
    mix_apart(net.model)
    assert list(flatbuffer.listing(net.model)) == before
