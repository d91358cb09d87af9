"""From a model to a `.tflite`, float and int8, verified on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sapool
from sapool.cost.micro import micro_memory
from sapool.errors import InputError
from sapool.model import CompiledModel

for package in ("litert_torch", "ai_edge_quantizer", "tflite_micro"):
    pytest.importorskip(package)


def model_of(text: str, size: int = 32) -> CompiledModel:
    """A model whose batch norms have seen some images."""
    torch.manual_seed(0)
    model = sapool.compile(text, num_classes=5, image_size=size)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(8, 3, size, size))
    return model.eval()


@pytest.mark.parametrize("kind", ["flc", "aps", "lps"])
def test_poolings_of_others_that_cannot_be_had_are_refused(kind: str, tmp_path: Path) -> None:
    model = sapool.compile(f"resnet18-{kind}-1122", num_classes=5, image_size=32)
    with pytest.raises(InputError, match=f"{kind} can't be written as .tflite: it.*or take blur"):
        sapool.export(model, tmp_path / "x.int8.tflite", "noise")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["dfmnlp", "dfmixp_reduced"])
@pytest.mark.parametrize("suffix", [".tflite", ".int8.tflite"])
def test_what_cannot_be_had_is_refused_before_anything_is_converted(kind: str, suffix: str, tmp_path: Path) -> None:
    model = sapool.compile(f"resnet18-{kind}-1122", num_classes=5, image_size=32)
    with pytest.raises(InputError, match=rf"{kind[:6]}\w* can't be written as .tflite: it samples its map"):
        sapool.export(model, tmp_path / f"x{suffix}", calibrate="noise")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("mobilenet_v2-nlp_headfix2_nowin_reduced-1222121", ".int8.tflite"),
        ("resnet18-lip-1222", ".int8.tflite"),
        ("resnet18-gaussian_pool-1222", ".int8.tflite"),
        ("resnet18-nlp-1122", ".tflite"),
    ],
)
def test_files_are_what_the_model_is(text: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    found = sapool.export(model_of(text), path, calibrate=torch.randn(8, 3, 32, 32))
    told = json.loads((tmp_path / f"x{suffix}.json").read_text())
    micro = told["tflm"]
    assert micro["head"] == micro["worked_out"]
    assert not {"PAD", "PADV2", "SELECT", "SELECT_V2", "GATHER_ND"} & set(micro["operations"])
    assert found.agreement == 1 or suffix == ".int8.tflite"  # noise leaves classes close together
    assert found.compared[0].cosine > 0.98
    if suffix == ".int8.tflite":
        assert ("EXP" in micro["operations"]) == ("gaussian" in text)  # of its gate, a number a channel
    assert path.stat().st_size == told["bytes"]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "head"), [("mobilenet_v2-skip-1222121", 276_480), ("resnet18-skip-1222", 184_320)])
def test_padding_costs_nothing(text: str, head: int, tmp_path: Path) -> None:
    sapool.export(model_of(text, 96), tmp_path / "x.int8.tflite", calibrate=torch.randn(4, 3, 96, 96))
    assert json.loads((tmp_path / "x.int8.tflite.json").read_text())["tflm"]["head"] == head


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".int8.tflite", ".tflite"])
def test_a_streamed_network_takes_what_the_report_says(suffix: str, tmp_path: Path) -> None:
    model, path = model_of("mobilenet_v2-skip-1222121", 96), tmp_path / f"x{suffix}"
    integer = suffix == ".int8.tflite"
    plain, streamed = (micro_memory(model, integer=integer, streamed=flag) for flag in (False, True))
    sapool.export(sapool.stream(model), path, calibrate=torch.randn(4, 3, 96, 96))
    micro = json.loads(Path(f"{path}.json").read_text())["tflm"]
    assert micro["head"] == micro["worked_out"] == streamed.head < plain.head / 2
    assert micro["streamed"] == streamed.bands
