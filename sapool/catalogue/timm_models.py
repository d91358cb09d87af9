"""Which of timm's models can be compiled, as it was found by compiling each. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

TABLE = Path(__file__).with_suffix(".tsv")
"""Made by `python -m benchmarks.timm_models`; its first line says of which release of timm."""


def read_table() -> Mapping[str, str]:
    """The strides of each model's stages, in order of names; "" where it can't be compiled."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    return dict(line.split("\t") for line in lines if not line.startswith("#"))
