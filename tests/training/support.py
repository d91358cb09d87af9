"""Small runs for the tests: one thread each, so that tests don't fight for cores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
FASHION = Path("/usr/share/datasets/fashion-mnist")
# A network with dropout and a pooling with noise, so that a forgotten random state shows.
TINY = [
    "digits",
    "architecture=mobilenet-gaussian_pool-1221111",
    "data.image_size=16",
    "data.mixup=0.2",
    "train.batch_size=16",
    "train.steps_per_epoch=6",
    "train.epochs=3",
    "train.log_every=1",
    "train.ema=0.9",
    "train.clip_norm=5",
    "schedule.warmup_epochs=1",
]


def start(*arguments: object, fault: str = "none", cwd: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.faults", fault, *map(str, arguments)],
        cwd=cwd or ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sapoolc(*arguments: object, fault: str = "none", code: int = 0, cwd: Path | None = None) -> tuple[str, str]:
    """Standard output and error of a command that must end with `code`."""
    process = start(*arguments, fault=fault, cwd=cwd)
    out, err = process.communicate(timeout=280)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    assert "Traceback" not in err, err
    return out, err


def train(folder: Path, *overrides: str, fault: str = "none", code: int = 0, options: tuple[str, ...] = ()) -> str:
    return "".join(sapoolc("train", *TINY, *overrides, "--run-dir", folder, *options, fault=fault, code=code))


def checkpoint(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def differences(a: object, b: object, where: str = "") -> list[str]:
    """Where two checkpoints differ by a single bit; paths of files are not compared."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict) and isinstance(b, dict):
        if any("best_model_path" in part for part in (a, b)):
            a, b = ({k: v for k, v in part.items() if "path" not in k and "models" not in k} for part in (a, b))
        if a.keys() != b.keys():
            return [f"{where}: {sorted(map(str, a.keys() ^ b.keys()))}"]
        return [odd for key in a for odd in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        pairs = list(zip(a, b, strict=False))
        return ([] if len(a) == len(b) else [where]) + [
            odd for i, (x, y) in enumerate(pairs) for odd in differences(x, y, f"{where}[{i}]")
        ]
    return [] if a == b else [f"{where}: {a} {b}"]
