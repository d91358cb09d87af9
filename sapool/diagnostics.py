"""What a compiler can see and its user should be told: plans that work, but not as they look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sapool.cost import costs, total
from sapool.errors import InputError, did_you_mean
from sapool.grammar import parse
from sapool.kinds import KINDS
from sapool.memory import activation_memory, unmodified
from sapool.model import CompiledModel
from sapool.passes.cancel_attention import cancelled
from sapool.plan import Plan, Site

CODES: Mapping[str, str] = MappingProxyType(
    {
        "cancelled-attention": "window normalisation cancels a pool's attention",
        "one-token": "a pool's attention has a single token",
        "lost-rows": "a pool drops rows or columns of its map",
        "prepool-raises-peak": "a prepool needs more memory than the backbone's own stem",
        "attention-dominates": "a pool's attention costs more than the rest of the network",
    }
)
"""Every code with what it means; each has a section in docs/diagnostics.md."""


@dataclass(frozen=True)
class Diagnostic:
    """One finding.

    Attributes:
        code: a key of `CODES`.
        site: where.
        message: what, why, and what to do, in a sentence or two.
    """

    code: str
    site: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def diagnose(model: CompiledModel) -> list[Diagnostic]:
    """Everything there is to tell of a model, at its plan's image size."""
    return [*_of_plan(model.plan, optimized=model.origin.optimized), *_of_memory(model), *_of_cost(model)]


def unacknowledged(findings: Iterable[Diagnostic], acknowledged: Iterable[str]) -> list[Diagnostic]:
    """The findings whose codes aren't acknowledged.

    Raises:
        InputError: a code that there isn't.
    """
    known = list(acknowledged)
    for code in known:
        if code not in CODES:
            known_codes = ", ".join(CODES)
            raise InputError(f"there is no diagnostic '{code}'; there are {known_codes}.{did_you_mean(code, CODES)}")
    return [finding for finding in findings if finding.code not in known]


def _of_plan(plan: Plan, *, optimized: bool) -> Iterable[Diagnostic]:
    for site in plan.sites:
        if site.action != "pool" or site.map is None:
            continue
        if cancelled(site) and not optimized:
            yield Diagnostic("cancelled-attention", site.name, _cancelled(plan, site))
        if site.tokens == 1:
            message = (
                f"{site.name} attends over a single token (map {_size(site)}, patch {site.patch}), so its attention "
                "has nothing to choose from; use larger images, a smaller patch, or avgp"
            )
            yield Diagnostic("one-token", site.name, message)
        sides = zip(site.map, ("rows", "columns"), strict=True)
        lost = [f"{side % site.stride} of {side} {name}" for side, name in sides if side % site.stride]
        if lost:
            message = (
                f"{site.name} drops {' and '.join(lost)}, because windows of {site.stride} don't fill its map of "
                f"{_size(site)}; use an image size that makes them fit"
            )
            yield Diagnostic("lost-rows", site.name, message)


def _cancelled(plan: Plan, site: Site) -> str:
    written = parse(plan.architecture)
    if site.name == "prepool":
        assert written.prepool is not None
        pooling = replace(written.prepool.pooling, nowin=True)
        spelled = replace(written, prepool=replace(written.prepool, pooling=pooling))
    else:
        spelled = replace(written, pooling=replace(written.pooling, nowin=True))
    left = "pools with its local weights alone" if KINDS[site.kind or "skip"].local else "is average pooling"
    return (
        f"{site.name} {left}: its patch of {site.patch} is a multiple of its stride of {site.stride}, so "
        "attention's weight is the same all over a window, cancels in A(x*w)/A(w), and is never trained; avoided by "
        f"{spelled}, or by a patch that is no multiple of {site.stride}"
    )


def _size(site: Site) -> str:
    return "x".join(map(str, site.map or ()))


def _of_memory(model: CompiledModel) -> Iterable[Diagnostic]:
    plan = model.plan
    if not any(site.name == "prepool" and site.action == "pool" for site in plan.sites):
        return
    ours, plain = activation_memory(model, plan).peak, activation_memory(unmodified(plan), plan).peak
    if ours > plain:
        message = (
            f"the peak activation memory is {ours / plain:.1f} times that of the unmodified {plan.backbone}, because "
            "a prepool works on the stem's map at full resolution; prepool-skip, or a stride for stage 1, avoids that"
        )
        yield Diagnostic("prepool-raises-peak", "prepool", message)


def _of_cost(model: CompiledModel) -> Iterable[Diagnostic]:
    macs = total(costs(model)).macs
    for site in model.plan.sites:
        if site.tokens is None or site.embedding is None:
            continue
        attention = 2 * site.tokens**2 * site.embedding
        if attention > macs - attention:
            message = (
                f"{site.name} spends {attention / macs:.0%} of the network's MACs on attention between {site.tokens} "
                "tokens; a patch p times larger costs p^4 times less (_reduced, or _reduced<digits>)"
            )
            yield Diagnostic("attention-dominates", site.name, message)
