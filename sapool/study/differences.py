"""Whether two combinations of a study differ by more than the noise between seeds."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How far a combination is below the best one, paired over the seeds that both have.

    Attributes:
        mean: the best one's score less this one's, on average.
        low, high: Student's 95 % interval of that; None with fewer than two seeds.
        n: seeds that both have.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def clear(self) -> bool | None:
        """Whether it exceeds the noise between seeds; None where that can't be told."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high


def paired(best: dict[int, float], other: dict[int, float]) -> Difference:
    """How far `other` is below `best`, both by seed, over the seeds that both have."""
    gaps = [best[seed] - other[seed] for seed in best if seed in other]
    mean = fmean(gaps) if gaps else 0.0
    if len(gaps) < 2:
        return Difference(mean, None, None, len(gaps))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1)) * stdev(gaps) / sqrt(len(gaps))
    return Difference(mean, mean - half, mean + half, len(gaps))
