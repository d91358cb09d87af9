"""Three tiers: what every run of the suite tries, what `pytest -m slow` and the gate do, and more of the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def in_tiers(names: Iterable[str], quick: Iterable[str], slow: Iterable[str] | None = None) -> list[Any]:
    """Every name as a parameter: the quick ones for each run of the suite, `slow` for the slow tier, else all others.

    What is in neither is for `pytest -m exhaustive`: it differs from the others by its name and size alone.
    """
    quick, slow = set(quick), None if slow is None else set(slow)

    def tier(name: str) -> Any:
        if name in quick:
            return name
        mark = pytest.mark.slow if slow is None or name in slow else pytest.mark.exhaustive
        return pytest.param(name, marks=mark)

    return [tier(name) for name in names]
