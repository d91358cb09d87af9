"""Cached files in TensorFlow Lite Micro: what it allocates and computes, and what is worked out for it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from sapool.cost.micro import micro_memory
from tests.export.tflite.cached import FILES, FOLDER, RECORDED, convert, given, network, real

pytest.importorskip("tflite_micro")
from sapool.export.tflite import flatbuffer
from sapool.export.tflite.memory import head_of
from sapool.export.tflite.runtimes import Recorded, run_micro

RECORD = json.loads(RECORDED.read_text(encoding="utf-8"))


def run(name: str) -> tuple[Any, Recorded]:
    """A cached model, and what TensorFlow Lite Micro does with it here."""
    path = FOLDER / name
    model = flatbuffer.read(path.read_bytes())
    return model, run_micro(path, given(model), head_of(model).bytes)


@pytest.mark.parametrize("name", FILES)
def test_the_runtime_allocates_and_computes_what_is_known(name: str) -> None:
    model, found = run(name)
    assert found.head == RECORD[name]["head"] == head_of(model).bytes
    results = found.results.reshape(len(found.results), -1)
    if "int8" in name:
        assert results.dtype == np.int8
        assert results.tolist() == RECORD[name]["outputs"]
    else:
        np.testing.assert_allclose(results, RECORD[name]["outputs"], atol=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_what_is_worked_out_of_the_network_is_what_the_runtime_allocates(name: str) -> None:
    pooling, suffix = FILES[name]
    assert micro_memory(network(pooling), integer="int8" in suffix).head == RECORD[name]["head"]


def test_integers_are_near_floats_in_the_runtime_itself() -> None:
    kinds = ("nlp_headfix2_nowin.tflite", "nlp_headfix2_nowin.int8.tflite")
    floats, integers = (real(model, found.results) for model, found in map(run, kinds))
    assert np.abs(integers - floats).max() < 0.1 * np.abs(floats).max()
    assert np.abs(floats[0] - floats[1]).max() > 0.1 * np.abs(floats).max()  # it tells the images apart


@pytest.mark.slow
@pytest.mark.skipif(find_spec("litert_torch") is None, reason="the extra tflite isn't installed")
@pytest.mark.parametrize("name", FILES)
def test_the_cached_files_are_what_is_written_now(name: str) -> None:
    made, kept = flatbuffer.read(convert(*FILES[name])), flatbuffer.read((FOLDER / name).read_bytes())
    assert list(flatbuffer.listing(made)) == list(flatbuffer.listing(kept))
    assert head_of(made).bytes == head_of(kept).bytes
