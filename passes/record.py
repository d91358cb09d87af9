"""What the passes report: each rewrite, each refusal with its reason, and what each pass cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rewrite:
    """A change of the graph: which rule made it, for which site, on which module or node, from what to what."""

    rule: str
    site: str
    target: str
    before: str
    after: str


@dataclass(frozen=True)
class Refusal:
    """A place that a rule looked at and left alone, and why."""

    rule: str
    site: str
    target: str
    reason: str


@dataclass(frozen=True)
class PassRun:
    """One run of a pass: wall time in seconds, and how the number of calls of each operation changed."""

    rule: str
    seconds: float
    ops: dict[str, int]


@dataclass
class Log:
    """Where a pass reports; the driver sets `rule` before each pass."""

    rule: str = ""
    rewrites: list[Rewrite] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    runs: list[PassRun] = field(default_factory=list)

    def rewrote(self, site: str, target: str, before: object, after: object) -> None:
        """Reports a change."""
        self.rewrites.append(Rewrite(self.rule, site, target, str(before), str(after)))

    def refused(self, site: str, target: str, reason: str) -> None:
        """Reports a place that was left alone."""
        self.refusals.append(Refusal(self.rule, site, target, reason))

    def ran(self, seconds: float, before: Counter[str], after: Counter[str]) -> None:
        """Reports the end of a pass."""
        changed = {op: after[op] - before[op] for op in sorted({*before, *after}) if after[op] != before[op]}
        self.runs.append(PassRun(self.rule, seconds, changed))
