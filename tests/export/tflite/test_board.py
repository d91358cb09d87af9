"""A board's files: C that a compiler takes, with the numbers of the file that it was made from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sapool.catalogue.formats import FORMATS, format_of
from sapool.export.calibration import Preparation
from tests.export.tflite.models import padded_apart, schema

pytest.importorskip("tflite_micro")
from sapool.export.board import array, example, header
from sapool.export.tflite import flatbuffer
from sapool.export.tflite.additions import turn_image

# As much of the runtime as an example needs, for a compiler that only looks.
STUBS = {
    "micro_interpreter.h": """
        namespace tflite { struct Model; struct Data { signed char* int8; }; struct Tensor { Data data; };
        struct MicroInterpreter { template <class R> MicroInterpreter(const Model*, R&, unsigned char*, int) {}
        int AllocateTensors(); int Invoke(); Tensor* input(int); Tensor* output(int); }; } enum { kTfLiteOk };""",
    "micro_log.h": "void MicroPrintf(const char*, ...);",
    "micro_mutable_op_resolver.h": """
        namespace tflite { template <int n> struct MicroMutableOpResolver {
        int AddConv2D(); int AddMaxPool2D(); int AddReverseV2(); }; }""",
    "schema_generated.h": "namespace tflite { const Model* GetModel(const void*); }",
}


def quantized() -> flatbuffer.Model:
    model = padded_apart().model
    flatbuffer.simplify(model)
    turn_image(model)
    model.description = b"a network"
    for tensor in model.subgraphs[0].tensors:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = np.array([0.5], np.float32), np.array([-3])
    return model


def test_the_files_compile(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    model = quantized()
    raw = flatbuffer.write(model)
    known = Preparation((0.5, 0.25), (1.0, 0.125), ("a", 'b "c"'), "the run x")
    (tmp_path / "model_data.h").write_text(header(model, len(raw), 4096, known))
    (tmp_path / "model_data.cc").write_text(array(raw))
    (tmp_path / "main.cc").write_text(example(model))
    for folder, names in (("micro", list(STUBS)[:3]), ("schema", list(STUBS)[3:])):
        (tmp_path / "tensorflow/lite" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "tensorflow/lite" / folder / name).write_text(STUBS[name])
    for source in ("model_data.cc", "main.cc"):
        done = subprocess.run(
            [compiler, "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", f"-I{tmp_path}", source],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_the_numbers_are_the_files() -> None:
    model = quantized()
    text = header(model, 77, 4096, Preparation((0.5, 0.25), (1.0, 0.125), ("a",), "the run x"))
    for line in (
        "kModelSize = 77;",
        "kHeight = 8, kWidth = 8, kChannels = 2;",
        "kMean[] = {0.5f, 0.25f};",
        "kStd[] = {1.0f, 0.125f};",
        "kInputScale = 0.5f;",
        "kInputZeroPoint = -3;",
        "kArenaSize = 4096;",
    ):
        assert line in text
    assert "MicroMutableOpResolver<3>" in example(model)
    raw = flatbuffer.write(model)
    assert bytes(int(byte, 16) for byte in array(raw).split("{")[1].split("}")[0].split(",")) == raw


def test_a_folder_is_told_by_its_slash() -> None:
    assert {entry.name for entry in FORMATS.values()} >= {"pt", "json", "py", "onnx", "tflite", "tflite_int8", "board"}
    assert format_of("board/").name == "board"
    assert format_of("x.int8.tflite").name == "tflite_int8"
    assert format_of("x.tflite").name == "tflite"
