"""ONNX and exported programs: what is written, what a file says of itself, and every kind of pooling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sapool
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import InputError
from sapool.export.subject import digest
from sapool.export.verification import Verification
from tests.export.tiny import SIZE, images, tiny
from tests.tiers import in_tiers

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def correlations(found: Verification) -> list[float]:
    return [row.correlation or 0 for row in found.compared if row.what == "weights"]


def test_a_file_says_what_it_is_and_takes_any_number_of_images(tmp_path: Path) -> None:
    model, path = tiny("lip"), tmp_path / "x.onnx"
    found = sapool.export(model, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.onnx", "x.onnx.json"]
    assert json.loads((tmp_path / "x.onnx.json").read_text()) == json.loads(json.dumps(found.as_data()))
    assert min(correlations(found)) > 0.9999

    proto = onnx.load(path)
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert said["architecture"] == str(model.architecture)
    assert said["digest"] == digest(model)
    assert json.loads(said["plan"])["format"]
    assert [output.name for output in proto.graph.output] == ["logits"]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        x = torch.randn(count, 3, SIZE, SIZE)
        (logits,) = session.run(None, {"image": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model(x), rtol=1e-4, atol=1e-5)


ABLATIONS = [kind for kind in POOLINGS if kind.startswith("nlpno")]
"""They differ from `nlp` by a layer."""


@pytest.mark.parametrize("kind", in_tiers(POOLINGS, (), [kind for kind in POOLINGS if kind not in ABLATIONS]))
def test_every_kind_of_pooling(kind: str, tmp_path: Path) -> None:
    """Float files are held to the model by `export` itself; integers are held here to what docs/deployment.md says."""
    model = tiny(kind)
    found = sapool.export(model, tmp_path / "x.onnx", images())
    assert found.compared[0].error < 1e-5
    found = sapool.export(model, tmp_path / "x.int8.onnx", images())
    # Where two grids of aps are about as large, rounding decides which of them is kept.
    assert found.compared[0].cosine > (0.95 if kind == "aps" else 0.99)
    assert min(correlations(found), default=1) > 0.95
    operations = {node.op_type for node in onnx.load(tmp_path / "x.int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operations


@pytest.mark.slow
def test_a_streamed_network_is_slices_and_concatenations(tmp_path: Path) -> None:
    model = tiny("lip")
    streamed = sapool.stream(model)
    assert len(streamed.schedule.regions) > 0
    for name in ("x.onnx", "x.int8.onnx"):
        found = sapool.export(streamed, tmp_path / name, images())
        assert found.compared[0].cosine > 0.99
        assert [row.what for row in found.compared] == ["output"]
        assert "its pools' weights are never whole" in found.notes[0]
        assert {"Slice", "Concat"} <= {node.op_type for node in onnx.load(tmp_path / name).graph.node}


@pytest.mark.slow
def test_an_exported_program(tmp_path: Path) -> None:
    model, path = tiny("nlp_nowin"), tmp_path / "x.pt2"
    found = sapool.export(model, path, images())
    assert found.compared[0].error < 1e-5
    extra = {"sapool.json": ""}
    program = torch.export.load(path, extra_files=extra)
    assert json.loads(extra["sapool.json"])["architecture"] == str(model.architecture)
    x = torch.randn(3, 3, SIZE, SIZE)
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


def test_integers_are_fitted_to_something(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="integers are fitted to images"):
        sapool.export(tiny("avgp"), tmp_path / "x.int8.onnx")
    with pytest.raises(InputError, match="nothing is calibrated"):
        sapool.export(tiny("avgp"), tmp_path / "x.json", "noise")
    assert not list(tmp_path.iterdir())
