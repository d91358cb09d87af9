"""What `sapoolc evaluate` measured of a study's runs beside accuracy: how steady each is, over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any

from sapool.digests import read_json
from sapool.errors import InputError
from sapool.study.values import number

MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "shift_consistency": "same class when moved",
        "corrupted_top1": "top1, corrupted",
        "calibration_error": "calibration error",
        "uniformity": "uniformity",
    }
)
"""What a run's `steadiness.json` says, and how it is headed; `uniformity` is the mean over the run's pools."""


@dataclass(frozen=True)
class Spread:
    """A measure over seeds: its mean, its standard deviation (None of one run), and of how many runs."""

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.std is None else f"±{self.std:.4f}")


def read_measures(run: Path) -> dict[str, float]:
    """What was measured of a run; nothing where `sapoolc evaluate` wasn't asked.

    Raises:
        InputError: the file is damaged.
    """
    file = run / "steadiness.json"
    try:
        found: dict[str, Any] = read_json(file)
        sites = found["uniformity"]
        given = {**found, "uniformity": fmean(sites.values()) if sites else None}
        return {name: number(given[name]) for name in MEASURES if given[name] is not None}
    except FileNotFoundError:
        return {}
    except InputError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        raise InputError(f"{file} is damaged; `sapoolc evaluate` the run again") from None


def are_measured(run: Path, shifts: int | None, corruptions: Sequence[str]) -> bool:
    """Whether what is asked for was measured of a run already: crops moved so far, and each of these corruptions."""
    try:
        found: dict[str, Any] = read_json(run / "steadiness.json")
        return shifts in (None, found["shifts"]) and set(corruptions) <= set(found["corruptions"])
    except (OSError, ValueError, TypeError, LookupError, InputError):
        return False


def spreads(runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Each measure over the runs of a combination that have it."""
    found = {name: [run[name] for run in runs if name in run] for name in MEASURES}
    return {
        name: Spread(fmean(some), stdev(some) if len(some) > 1 else None, len(some))
        for name, some in found.items()
        if some
    }
