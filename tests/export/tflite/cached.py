"""Converted files of small networks, kept so that TensorFlow Lite Micro runs in every test run, without a converter.

`python -m tests.export.tflite.cached` writes them again; it needs the extra `tflite`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import sapool
from sapool.model import CompiledModel
from tests.export.tiny import images, tiny

FOLDER = Path(__file__).parents[2] / "data" / "tflite"
RECORDED = FOLDER / "recorded.json"
"""What TensorFlow Lite Micro allocated for each and put out, when the file was written."""
IMAGES = FOLDER / "images.npy"
SIZE = 16
STEP = 32
"""Images are kept as integers, of which so many make 1: then every machine reads the same."""
FILES = {
    f"{pooling}{suffix}": (pooling, suffix)
    for pooling, suffixes in {
        "skip": (".int8.tflite",),
        "lip": (".int8.tflite",),
        "gaussian_pool": (".int8.tflite",),
        "attnpool": (".int8.tflite",),
        "nlp": (".int8.tflite",),
        "nlp_headfix2_nowin": (".int8.tflite", ".tflite"),
    }.items()
    for suffix in suffixes
}


def given(model: Any) -> Any:
    """The images as a file takes them, (N, H, W, C)."""
    images = np.load(IMAGES).astype(np.float32) / STEP
    quantization = model.subgraphs[0].tensors[int(model.subgraphs[0].inputs[0])].quantization
    if quantization is None or quantization.scale is None:
        return images
    return np.clip(np.round(images / quantization.scale[0] + quantization.zeroPoint[0]), -128, 127).astype(np.int8)


def real(model: Any, results: Any) -> Any:
    """A file's outputs as numbers, (N, classes)."""
    quantization = model.subgraphs[0].tensors[int(model.subgraphs[0].outputs[0])].quantization
    if quantization is None or quantization.scale is None:
        return results.reshape(len(results), -1)
    return (results.astype(np.float32).reshape(len(results), -1) - quantization.zeroPoint[0]) * quantization.scale[0]


def network(pooling: str) -> CompiledModel:
    """What a file is of."""
    return tiny(pooling, size=SIZE)


def convert(pooling: str, suffix: str) -> bytes:
    """A small network's file, verified."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        sapool.export(network(pooling), path, images(size=SIZE))
        return path.read_bytes()


def main() -> None:
    """Writes all of it."""
    from sapool.export.tflite.flatbuffer import drop_metadata, read, write  # noqa: PLC0415
    from sapool.export.tflite.memory import head_of  # noqa: PLC0415
    from sapool.export.tflite.runtimes import run_micro  # noqa: PLC0415

    FOLDER.mkdir(exist_ok=True)
    kept = np.clip(np.round(images(2, SIZE).permute(0, 2, 3, 1).numpy() * STEP), -128, 127)
    np.save(IMAGES, kept.astype(np.int8))
    recorded = {}
    for name, kind in FILES.items():
        model = read(convert(*kind))
        drop_metadata(model, "sapool")  # digests and versions, which would differ with every writing
        (FOLDER / name).write_bytes(write(model))
        found = run_micro(FOLDER / name, given(model), head_of(model).bytes)
        recorded[name] = {"head": found.head, "outputs": found.results.reshape(len(found.results), -1).tolist()}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(record)}" for name, record in recorded.items())
    RECORDED.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
