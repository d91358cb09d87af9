"""Small runs of a classifier, and what is in their checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.commands import sapoolc, sapoolc_apart

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
# A shorter one, on images that every pooling fits on.
SHORT = ("train.epochs=2", "train.steps_per_epoch=3", "data.image_size=32")


def train(folder: Path, *overrides: str, code: int = 0, options: tuple[str, ...] = ()) -> str:
    """What a small run prints, of both streams."""
    return "".join(sapoolc("train", *TINY, *overrides, "--run-dir", folder, *options, code=code))


def train_apart(
    folder: Path, *overrides: str, fault: str = "none", code: int = 0, options: tuple[str, ...] = ()
) -> str:
    """The same in a process of its own, which may be killed; all of them compute with one thread."""
    return "".join(sapoolc_apart("train", *TINY, *overrides, "--run-dir", folder, *options, fault=fault, code=code))


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
