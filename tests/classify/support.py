"""Small runs for the tests: one thread each, so that tests don't fight for cores."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import torch

from tests.classify.faults import run

ROOT = Path(__file__).parents[2]
FASHION = Path("/usr/share/datasets/fashion-mnist")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
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

# Processes of their own, to be killed, forked from one that has loaded what takes seconds to load.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["sapool.classify.run", "sapool.classify.dry_run", "tests.classify.faults", "sapool.detect.run"]
)


def _child(fault: str, arguments: list[str], cwd: str, out: str, err: str) -> None:
    os.chdir(cwd)
    for stream, path in ((1, out), (2, err)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, stream)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(stream), "w", buffering=1) for stream in (1, 2))
    sys.exit(run(fault, arguments))


def sapoolc(
    *arguments: object, fault: str = "none", code: int = 0, cwd: Path | None = None, wait: int = 280
) -> tuple[str, str]:
    """Standard output and error of a command that must end with `code`."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        words = [str(argument) for argument in arguments]
        process = _context.Process(target=_child, args=(fault, words, str(cwd or ROOT), str(out), str(err)))
        process.start()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        process.join(wait)
        if process.exitcode is None:
            process.kill()
        said = out.read_text(), err.read_text()
    assert process.exitcode == code, f"exit code {process.exitcode}\n{said[0]}\n{said[1]}"
    assert "Traceback" not in said[1], said[1]
    return said


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
