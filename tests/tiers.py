"""Two tiers: what every run of the suite tries, and what only `pytest -m slow` and the gate do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def in_tiers(names: Iterable[str], quick: Iterable[str]) -> list[Any]:
    """Every name as a parameter: the quick ones for each run of the suite, the others for the slow tier."""
    quick = set(quick)
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
