"""Budgets of memory: how they are written, and who is to blame where one is exceeded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sapool.errors import InputError, brief

if TYPE_CHECKING:  # sizes are read before torch is loaded
    from sapool.cost.memory import Memory

UNITS = {"": 1, "B": 1, "KB": 1024, "KIB": 1024, "MB": 1024**2, "MIB": 1024**2}
DIGITS = 30
"""That a size or a number of things may have."""


def parse_size(text: str) -> int:
    """Bytes of a size such as `256KB` (1 KB is 1024 bytes, as microcontrollers' data sheets count).

    Raises:
        InputError: it isn't one.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in UNITS:
        raise InputError(f"'{text}' isn't a size; expected a number of bytes, KB or MB, for instance 256KB")
    if len(found[1]) > DIGITS:
        raise InputError(f"{brief(text)} isn't the size of any memory; expected for instance 256KB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def to_blame(memory: Memory, budget: int, parts: Mapping[str, str]) -> list[tuple[str, int]]:
    """The parts of a network that need more than `budget` bytes, with their worst moment, the worst first.

    Args:
        parts: which part each of the model's nodes belongs to (`sapool.analysis.parts.parts_of`).
    """
    worst: dict[str, int] = {}
    for step in memory.steps:
        part = parts.get(step.part, step.part)
        worst[part] = max(worst.get(part, 0), step.total)
    over = [(part, needed) for part, needed in worst.items() if needed > budget]
    return sorted(over, key=lambda item: -item[1])
