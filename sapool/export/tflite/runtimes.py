"""Where files are run: LiteRT in this process, TensorFlow Lite Micro in one of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sapool.errors import WorkError, first_line
from sapool.export.tflite.conversion import quiet

_SCRIPT = Path(__file__).with_name("micro.py")
_ROOMS = (4 * 2**20, 256 * 2**20)
"""Bytes beside the activations that an arena is tried with, the second where the first is too small: what the runtime
keeps for itself. Products of attention keep a transposed operand each: megabytes for many blocks of long maps."""
_TOO_SMALL = ("Failed to resize buffer", "Failed to allocate")


@dataclass(frozen=True)
class Recorded:
    """What TensorFlow Lite Micro did with a file.

    Attributes:
        results: its first output for each image, as the file has it.
        head: bytes of its arena for activations and scratch.
        tail: bytes for itself: structures, quantization, what kernels prepare; with pointers of 8 bytes, as here.
        parts: of the tail, by name.
    """

    results: Any
    head: int
    tail: int
    parts: dict[str, int]


class LiteRT:
    """A file in LiteRT: images (N, C, H, W) to float tensors.

    Args:
        path: of the file.
        threads: None for its own kernels on one thread, which verify files; a number for XNNPACK's on as many.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        with quiet():
            from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415

            kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if threads is None else OpResolverType.AUTO
            self._interpreter = Interpreter(str(path), experimental_op_resolver_type=kernels, num_threads=threads)
            self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    def integers(self, images: Tensor) -> Any:
        """Images as the file takes them, (N, H, W, C)."""
        given = images.permute(0, 2, 3, 1).contiguous().numpy()
        scale, zero = self._input["quantization"]
        if self._input["dtype"] == np.float32:
            return given
        info = np.iinfo(self._input["dtype"])
        return np.clip(np.round(given / scale + zero), info.min, info.max).astype(self._input["dtype"])

    def raw(self, images: Tensor) -> list[Any]:
        """The outputs as the file has them, one array each.

        Raises:
            WorkError: a kernel refuses what it is given.
        """
        found: list[list[Any]] = [[] for _ in self._outputs]
        for image in self.integers(images):
            self._interpreter.set_tensor(self._input["index"], image[None])
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                raise WorkError(f"LiteRT can't run the file: {_why(str(error))}") from error
            for output, kept in zip(self._outputs, found, strict=True):
                kept.append(self._interpreter.get_tensor(output["index"]))
        return [np.concatenate(kept) for kept in found]

    def __call__(self, images: Tensor) -> list[Tensor]:
        results = []
        for output, values in zip(self._outputs, self.raw(images), strict=True):
            scale, zero = output["quantization"]
            real = values if values.dtype == np.float32 else (values.astype(np.float32) - zero) * np.float32(scale)
            tensor = torch.from_numpy(np.ascontiguousarray(real))
            results.append(tensor.permute(0, 3, 1, 2) if tensor.dim() == 4 else tensor)
        return results


def _why(said: str) -> str:
    """What a kernel refuses, in words where they are known."""
    if "div.cc" in said and "zero_point" in said:
        return "it divides by a sum of weights that is zero in 8 bits; write a .tflite or a .onnx, or take a sigmoid"
    return first_line(RuntimeError(said))


def run_micro(path: Path, images: Any, head: int) -> Recorded:
    """Runs a file in TensorFlow Lite Micro.

    Args:
        path: of the file.
        images: as the file takes them, (N, H, W, C).
        head: bytes that its activations are expected to need.

    Raises:
        WorkError: the runtime refuses the file, or dies of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "images.npy", Path(folder) / "results.npy"
        np.save(given, images)
        for room in _ROOMS:
            done = _started(path, 2 * head + room + path.stat().st_size, given, found)
            if done.returncode == 0 or not any(said in done.stderr for said in _TOO_SMALL):
                break
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "/micro/" in line or "failed" in line.lower()]
            said = "; ".join(lines[:2]) or (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            died = f"it died of signal {-done.returncode}" if done.returncode < 0 else "it refuses the file"
            raise WorkError(f"TensorFlow Lite Micro can't run the file: {died}: {said}")
        return Recorded(np.load(found), *_allocations(done.stderr))


def _started(path: Path, arena: int, given: Path, found: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_SCRIPT), str(path), str(arena), str(given), str(found)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )


def _allocations(text: str) -> tuple[int, int, dict[str, int]]:
    head, tail = (int(re.search(rf"allocation {part} (\d+)", text)[1]) for part in ("head", "tail"))  # type: ignore[index]
    parts = {name: int(size) for name, size in re.findall(r"\] '([^']+)' used (\d+) bytes", text)}
    return head, tail, parts
