"""`DIR/`: what a microcontroller's project takes in: the model as a C array, its sizes, and an example that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sapool.catalogue.formats import register_format
from sapool.errors import InputError, visible
from sapool.export.calibration import Calibration, Preparation
from sapool.export.delivery import deliver
from sapool.export.litert import Int8Backend
from sapool.export.subject import Bands
from sapool.export.tflite import flatbuffer
from sapool.export.verification import Verification
from sapool.model import CompiledModel
from sapool.schedule.streamed import StreamedModel
from sapool.weights.atomic import write_text

MODEL = "model.int8.tflite"
_STEP = 1024
# The catalogue reads these without importing anything, so they are written out.
PACKAGES = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer", "tflite_micro")
_WORDS = {"2D": "2D", "3D": "3D", "V2": "V2", "MATMUL": "MatMul", "ND": "Nd"}


@register_format(
    "board",
    suffixes=("/",),
    summary="a folder with an int8 model as C, for TensorFlow Lite Micro",
    weights=True,
    runs=True,
    lays_bands=True,
    calibrated=True,
    extra="tflite",
    packages=PACKAGES,
    rank=22,
)
def write_board(
    model: CompiledModel | StreamedModel,
    path: str | Path,
    *,
    calibration: Calibration | None = None,
    preparation: Preparation | None = None,
    bands: Bands | None = None,
) -> Verification:
    """Writes a folder: `model.int8.tflite`, verified, the same as `model_data.cc`, `model_data.h`, and `main.cc`."""
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{path} is a file; a board's files are written to a folder")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = deliver(Int8Backend(), model, folder / MODEL, calibration, preparation, bands)
    except BaseException:
        if made:
            folder.rmdir()
        raise
    content = flatbuffer.read((folder / MODEL).read_bytes())
    flatbuffer.drop_metadata(content, "sapool")  # text that a device has no use for
    raw = flatbuffer.write(content)
    assert found.data is not None
    micro = found.data["tflm"]
    arena = -(-(micro["head"] + micro["tail"]) // _STEP) * _STEP
    write_text(folder / "model_data.h", header(content, len(raw), arena, preparation or Preparation()))
    write_text(folder / "model_data.cc", array(raw))
    write_text(folder / "main.cc", example(content))
    return found


def header(model: Any, size: int, arena: int, preparation: Preparation) -> str:
    """`model_data.h`: what the program has to know of the model."""
    graph = model.subgraphs[0]
    given, result = graph.tensors[int(graph.inputs[0])], graph.tensors[int(graph.outputs[0])]
    _, height, width, channels = flatbuffer.shape_of(given)
    mean = preparation.mean or (0.0,) * channels
    std = preparation.std or (1.0,) * channels
    known = preparation.origin if preparation.mean is not None else "not known: pixels between 0 and 1 as they are"
    classes = ", ".join(map(_literal, preparation.classes))
    listed = f"constexpr const char* kClasses[] = {{{classes}}};\n" if classes else ""
    described = model.description if isinstance(model.description, str) else model.description.decode()
    return f"""// {visible(described)}
#pragma once

#include <cstdint>

alignas(16) extern const unsigned char g_model[];
constexpr int kModelSize = {size};

// Activations, and what the runtime keeps for itself where pointers have 8 bytes; with 4 it is less.
constexpr int kArenaSize = {arena};

// The image: int8, (1, height, width, channels). Normalisation: {visible(known)}.
constexpr int kHeight = {height}, kWidth = {width}, kChannels = {channels};
constexpr float kMean[] = {{{_floats(mean)}}};
constexpr float kStd[] = {{{_floats(std)}}};
constexpr float kInputScale = {_number(given.quantization.scale[0])};
constexpr int kInputZeroPoint = {int(given.quantization.zeroPoint[0])};

// The scores of {flatbuffer.shape_of(result)[-1]} classes.
constexpr int kOutputs = {int(np.prod(flatbuffer.shape_of(result)))};
constexpr float kOutputScale = {_number(result.quantization.scale[0])};
constexpr int kOutputZeroPoint = {int(result.quantization.zeroPoint[0])};
{listed}"""


def _literal(name: str) -> str:
    """A name as C writes it; in octal what could end the literal, or mean something: `??/` was a backslash once."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in _bytes(name))
    return f'"{"".join(plain)}"'


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "backslashreplace")


def array(raw: bytes) -> str:
    """`model_data.cc`: the model's bytes."""
    lines = [", ".join(f"0x{byte:02x}" for byte in raw[at : at + 16]) for at in range(0, len(raw), 16)]
    body = ",\n    ".join(lines)
    return f'#include "model_data.h"\n\nalignas(16) const unsigned char g_model[] = {{\n    {body}}};\n'


def example(model: Any) -> str:
    """`main.cc`: from one image to a class, as in TensorFlow Lite Micro's own examples."""
    kinds = flatbuffer.operations(model)
    added = "\n".join(f"  if (resolver.Add{_method(kind)}() != kTfLiteOk) return 1;" for kind in kinds)
    return f"""#include <algorithm>
#include <cmath>
#include <cstdint>

#include "model_data.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

// Fills pixels (height, width, channels) from a camera; yours.
extern void ReadImage(uint8_t* pixels);

namespace {{
alignas(16) uint8_t arena[kArenaSize];
uint8_t pixels[kHeight * kWidth * kChannels];

int8_t Quantize(uint8_t pixel, int channel) {{
  const float value = (pixel / 255.0f - kMean[channel]) / kStd[channel];
  const float step = std::round(value / kInputScale) + kInputZeroPoint;
  return static_cast<int8_t>(std::min(127.0f, std::max(-128.0f, step)));
}}
}}  // namespace

int main() {{
  tflite::MicroMutableOpResolver<{len(kinds)}> resolver;
{added}
  tflite::MicroInterpreter interpreter(tflite::GetModel(g_model), resolver, arena, kArenaSize);
  if (interpreter.AllocateTensors() != kTfLiteOk) return 1;

  ReadImage(pixels);
  int8_t* input = interpreter.input(0)->data.int8;
  for (int i = 0; i < kHeight * kWidth * kChannels; ++i) input[i] = Quantize(pixels[i], i % kChannels);
  if (interpreter.Invoke() != kTfLiteOk) return 1;

  const int8_t* scores = interpreter.output(0)->data.int8;
  const int best = static_cast<int>(std::max_element(scores, scores + kOutputs) - scores);
  MicroPrintf("class %d", best);
  return 0;
}}
"""


def _method(kind: str) -> str:
    """The resolver's name for an operation: `AddConv2D` for CONV_2D."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in kind.split("_"))


def _number(value: float) -> str:
    return (
        f"{float(value):.9g}f"
        if "." in f"{float(value):.9g}" or "e" in f"{float(value):.9g}"
        else f"{float(value):.1f}f"
    )


def _floats(values: tuple[float, ...]) -> str:
    return ", ".join(_number(value) for value in values)
