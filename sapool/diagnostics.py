"""What a compiler can see and its user should be told: plans that work, but not as they look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sapool.catalogue.diagnostics import check_codes
from sapool.catalogue.poolings import POOLINGS
from sapool.cost.comparison import Comparison, compare
from sapool.grammar import parse
from sapool.ir.architecture import Architecture, PoolingSpec
from sapool.ir.plan import Plan
from sapool.ir.site import Site
from sapool.model import CompiledModel
from sapool.passes.inference.cancel_attention import cancelled
from sapool.schedule.streaming import Streaming


@dataclass(frozen=True)
class Diagnostic:
    """One of them.

    Attributes:
        code: a key of `sapool.catalogue.diagnostics.CODES`.
        site: where.
        message: what, why, and what to do, in a sentence or two.
    """

    code: str
    site: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def diagnose(model: CompiledModel, compared: Comparison | None = None) -> list[Diagnostic]:
    """Everything there is to tell of a model at its plan's image size; `compared` if it has been measured already."""
    plan, compared = model.plan, compared or compare(model)
    return [
        *_of_plan(plan, optimized=model.origin.optimized),
        *_of_memory(plan, compared),
        *_of_cost(plan, compared.total.macs),
    ]


def unacknowledged(diagnostics: Iterable[Diagnostic], acknowledged: Iterable[str]) -> list[Diagnostic]:
    """The diagnostics whose codes aren't acknowledged.

    Raises:
        InputError: a code that there isn't.
    """
    known = list(acknowledged)
    check_codes(known)
    return [diagnostic for diagnostic in diagnostics if diagnostic.code not in known]


def _of_plan(plan: Plan, *, optimized: bool) -> Iterable[Diagnostic]:
    for site in plan.sites:
        if site.action != "pool" or site.map is None:
            continue
        if cancelled(site) and not optimized:
            yield Diagnostic("cancelled-attention", site.name, _cancelled(plan, site))
        if site.attention is not None and site.tokens == 1:
            message = (
                f"{site.name} attends over a single token (map {_size(site)}, patch {site.attention.patch}), so its "
                "attention has nothing to choose from; use larger images, a smaller patch, or avgp"
            )
            yield Diagnostic("one-token", site.name, message)
        if site.attention is not None and site.channels % site.attention.heads and _fixed(plan, site) is not None:
            heads, embedding = site.attention.heads, site.attention.embedding
            message = (
                f"{site.name} has {site.channels} channels, which {heads} heads don't divide, so its attention works "
                f"on {embedding}, {embedding // heads} a head; use headfix{_nearest_divisor(site.channels, heads)}"
            )
            yield Diagnostic("odd-embedding", site.name, message)
        sides = zip(site.map, ("rows", "columns"), strict=True)
        lost = [f"{side % site.stride} of {side} {name}" for side, name in sides if side % site.stride]
        if lost:
            message = (
                f"{site.name} drops {' and '.join(lost)}, because windows of {site.stride} don't fill its map of "
                f"{_size(site)}; use an image size that makes them fit"
            )
            yield Diagnostic("lost-rows", site.name, message)


def _fixed(plan: Plan, site: Site) -> int | None:
    """The number of heads that the text gives a site, or None where it has its own."""
    return _written(parse(plan.architecture), site).headfix


def _written(written: Architecture, site: Site) -> PoolingSpec:
    """How a text spells a site's pooling."""
    if site.name == "prepool":
        assert written.prepool is not None
        return written.prepool.pooling
    return written.pooling


def _nearest_divisor(number: int, near: int) -> int:
    return min((n for n in range(1, number + 1) if number % n == 0), key=lambda n: (abs(n - near), n))


def _cancelled(plan: Plan, site: Site) -> str:
    assert site.pool is not None
    assert site.attention is not None
    written = parse(plan.architecture)
    pooling = replace(_written(written, site), nowin=True)
    if site.name == "prepool":
        assert written.prepool is not None
        spelled = replace(written, prepool=replace(written.prepool, pooling=pooling))
    else:
        spelled = replace(written, pooling=pooling)
    left = "pools with its local weights alone" if POOLINGS.load(site.pool.kind).local_factor else "is average pooling"
    return (
        f"{site.name} {left}: its patch of {site.attention.patch} is a multiple of its stride of {site.stride}, so "
        "attention's weight is the same all over a window, cancels in A(x*w)/A(w), and is never trained; avoided by "
        f"{spelled}, or by a patch that is no multiple of {site.stride}"
    )


def _size(site: Site) -> str:
    return "x".join(map(str, site.map or ()))


def _of_memory(plan: Plan, compared: Comparison) -> Iterable[Diagnostic]:
    if not any(site.name == "prepool" and site.action == "pool" for site in plan.sites):
        return
    ours, plain = compared.memory.peak, compared.baseline_memory.peak
    if ours > plain:
        streamed = Streaming(compared).lowest.peak
        message = (
            f"the peak activation memory is {ours / plain:.1f} times that of the unmodified {plan.backbone}, because "
            f"a prepool works on the stem's map at full resolution; streamed (--stream) it is {streamed / plain:.1f} "
            "times; prepool-skip, or a stride for stage 1, avoids it"
        )
        yield Diagnostic("prepool-raises-peak", "prepool", message)


def _of_cost(plan: Plan, macs: int) -> Iterable[Diagnostic]:
    for site in plan.sites:
        if site.tokens is None or site.attention is None:
            continue
        attention = 2 * site.tokens**2 * site.attention.embedding
        if attention > macs - attention:
            message = (
                f"{site.name} spends {attention / macs:.0%} of the network's MACs on attention between {site.tokens} "
                "tokens; a patch p times larger costs p^4 times less (_reduced, or _reduced<digits>)"
            )
            yield Diagnostic("attention-dominates", site.name, message)
