"""Whether a plan makes sense: with itself, and with what is measured in its backbone. Plans are edited by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from sapool.catalogue.poolings import POOLINGS
from sapool.errors import InputError, PlanError, did_you_mean
from sapool.ir.placement import places_of
from sapool.ir.plan import Plan
from sapool.ir.planner import check_outputs
from sapool.ir.site import Attention, Pool, Restride, Site
from sapool.ir.survey import Place, Stage, Strides, Survey

# Upper bounds that no network needs, so that a slip of the keyboard is an error and not an allocation.
MOST_HEADS, LARGEST_STRIDE, LARGEST_PATCH, WIDEST_EMBEDDING = 4096, 256, 256, 1 << 16


def check(plan: Plan) -> None:
    """Passes where a plan fits together and fits what it says of its backbone.

    Raises:
        PlanError: it doesn't; names the site and the field.
    """
    try:
        check_outputs(plan)
    except InputError as error:
        raise PlanError("", "options.out_indices", str(error).partition(": ")[2]) from None
    names = [site.name for site in plan.sites]
    stages = [stage.name for stage in plan.survey.stages]
    if names[:1] not in (["stem"], ["prepool"]) or names[1:] != stages:
        raise PlanError(
            "", "sites", f"expected stem or prepool, {', '.join(stages)}, in that order, not {_words(names)}"
        )
    for site, stage in zip(plan.sites, (None, *plan.survey.stages), strict=True):
        _Check(plan, site, stage).all()


def check_survey(planned: Survey, measured: Survey) -> None:
    """Passes where a plan was made for the backbone that is there.

    Raises:
        PlanError: it was made for another one; names the first thing that differs.
    """
    if planned == measured:
        return
    if len(planned.stages) != len(measured.stages):
        raise _differs("survey", "stages", len(planned.stages), len(measured.stages))
    for ours, theirs in zip(planned.stages, measured.stages, strict=True):
        _compare(f"survey.{ours.name}", ours, theirs)
    _compare("survey", planned, measured)


def _compare(where: str, ours: Stage | Survey, theirs: Stage | Survey) -> None:
    for field in fields(ours):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        if one != other:
            raise _differs(where, field.name, one, other)


def _differs(where: str, field: str, planned: object, measured: object) -> PlanError:
    return PlanError(where, field, f"the plan is for a backbone that has {planned} there, and this one has {measured}")


class _Check:
    """The rules of one site; `stage` is None for the stem and a prepool."""

    def __init__(self, plan: Plan, site: Site, stage: Stage | None) -> None:
        self.plan, self.site, self.stage = plan, site, stage
        survey = plan.survey
        self.own: Strides = stage.strides if stage else survey.strides
        self.candidates = stage.candidates if stage else survey.candidates
        self.was = stage.stride if stage else survey.stem_stride

    def all(self) -> None:
        site = self.site
        if not 1 <= site.stride <= LARGEST_STRIDE:
            raise self._wrong("stride", f"expected a number from 1 to {LARGEST_STRIDE}, not {site.stride}")
        if site.was != self.was:
            raise self._wrong("was", f"the backbone's own stride there is {self.was}, not {site.was}")
        if site.name == "stem" and site.action != "keep":
            raise self._wrong(site.action, "the stem keeps what the backbone has; a site called prepool changes it")
        if site.restride is None:
            self._keeps()
        else:
            self._restrides(site.restride)
        if site.pool is not None:
            self._pools(site.pool)
        self._channels()
        self._shortcut()

    def _keeps(self) -> None:
        """Where nothing is restrided, what the backbone does has to be what is wanted."""
        own = self.was if self.site.pool is None else 1
        factor = self.site.stride if self.site.pool is None else self.was
        if own != factor:
            wanted = f"a stride of {self.site.stride}" if self.site.pool is None else "pooling"
            raise self._wrong("restride", f"missing: the backbone's own stride of {self.was} must change for {wanted}")

    def _restrides(self, restride: Restride) -> None:
        known = (*self.own.first, *self.own.later, *self.candidates)
        removable = dict(self.own.pools)
        seen: set[str] = set()
        for node, stride in restride.strides:
            if node not in known:
                raise self._wrong("restride.strides", self._unknown(node, known))
            if node in seen:
                raise self._wrong("restride.strides", f"'{node}' stands twice")
            seen.add(node)
            allowed = {1} if self.site.pool is not None else {1, self.site.stride}
            if stride not in allowed:
                why = "next to a pool" if self.site.pool is not None else f"in a site of stride {self.site.stride}"
                raise self._wrong("restride.strides", f"'{node}' can't have a stride of {stride} {why}")
        for node in restride.removes:
            if node not in removable:
                raise self._wrong("restride.removes", self._unknown(node, removable))
            if node in seen:
                raise self._wrong("restride.removes", f"'{node}' is removed, and given a stride")
        left = [n for n in (*self.own.first, *self.own.later) if n not in seen and n not in restride.removes]
        if left:
            raise self._wrong("restride", f"nothing is said of {_words(left)}, which lowers the resolution too")
        self._filter(restride.filter)
        given = [stride for _, stride in restride.strides]
        if self.site.pool is None and self.site.stride > 1 and self.site.stride not in given:
            raise self._wrong("restride.strides", f"no operation has the site's stride of {self.site.stride}")

    def _filter(self, kind: str) -> None:
        if not kind:
            return
        known = [name for name, entry in POOLINGS.items() if entry.filters]
        if kind not in known:
            expected = f"expected one of {', '.join(known)}, or an empty text for none, not '{kind}'."
            raise self._wrong("restride.filter", expected + did_you_mean(kind, known))
        if self.site.pool is not None or self.site.stride == 1:
            why = "next to a pool" if self.site.pool is not None else "in a site of stride 1"
            raise self._wrong("restride.filter", f"'{kind}' filters strided operations, and there are none {why}")

    def _pools(self, pool: Pool) -> None:
        if pool.kind not in POOLINGS:
            known = f"expected one of {', '.join(POOLINGS)}, not '{pool.kind}'."
            raise self._wrong("pool.kind", known + did_you_mean(pool.kind, POOLINGS))
        if POOLINGS[pool.kind].keeps_strides:
            named = f", and restride.filter is '{pool.kind}'" if POOLINGS[pool.kind].filters else ""
            problem = f"'{pool.kind}' pools nothing: pool is null then, and restride gives the stride{named}"
            raise self._wrong("pool.kind", problem)
        places = self._places()
        found = [(place, readers) for place, readers in places if place.node == pool.anchor]
        if not found:
            raise self._wrong("pool.anchor", self._unknown(pool.anchor, [place.node for place, _ in places]))
        if not any(pool.readers == readers for _, readers in found):
            expected = " or ".join(_words(readers) for _, readers in found)
            raise self._wrong("pool.readers", f"expected {expected} for a pool on '{pool.anchor}'")
        if pool.channels != found[0][0].channels:
            raise self._wrong(
                "pool.channels", f"'{pool.anchor}' has {found[0][0].channels} channels, not {pool.channels}"
            )
        self._attention(pool.kind, pool.attention)

    def _attention(self, kind: str, numbers: Attention | None) -> None:
        entry = POOLINGS.find(kind)
        if (numbers is None) != (entry.attention == ""):
            has = (
                "has no attention: expected null" if entry.attention == "" else "has attention: its numbers are missing"
            )
            raise self._wrong("pool.attention", f"'{kind}' {has}")
        if numbers is None:
            return
        limits = {"heads": MOST_HEADS, "patch": LARGEST_PATCH, "embedding": WIDEST_EMBEDDING}
        for name, most in limits.items():
            value = getattr(numbers, name)
            if not 1 <= value <= most:
                raise self._wrong(f"pool.attention.{name}", f"expected a number from 1 to {most}, not {value}")
        if numbers.embedding % numbers.heads:
            problem = f"{numbers.embedding} channels can't be shared by {numbers.heads} heads; expected a multiple"
            raise self._wrong("pool.attention.embedding", problem)
        if not numbers.window and not entry.takes_modifiers:
            raise self._wrong("pool.attention.window", f"'{kind}' makes no weights that could be normalised")
        if numbers.patch != 1 and not entry.takes_modifiers:
            raise self._wrong("pool.attention.patch", f"'{kind}' has patches of one pixel")

    def _channels(self) -> None:
        if self.site.pool is not None:
            expected = self.site.pool.channels
        else:
            expected = self.stage.last.channels if self.stage else self.plan.survey.stem.channels
        if self.site.channels != expected:
            raise self._wrong("channels", f"expected {expected}, not {self.site.channels}")

    def _shortcut(self) -> None:
        given, stage = self.site.shortcut, self.stage
        strided = self.site.restride is not None and any(stride > 1 for _, stride in self.site.restride.strides)
        needed = strided and stage is not None and stage.stride == 1 and bool(stage.shortcuts)
        if given is None:
            if needed:
                raise self._wrong("shortcut", "missing: an identity can't follow the new stride")
            return
        if stage is None or not stage.shortcuts:
            raise self._wrong("shortcut", "there is no identity that a projection could take the place of")
        expected = (stage.entry.channels, stage.first.channels)
        for name, value, right in (
            ("block", given.block, (stage.block,)),
            ("reader", given.reader, stage.shortcuts),
            ("channels", given.channels, (expected,)),
        ):
            if value not in right:
                raise self._wrong(f"shortcut.{name}", f"expected {_words(right)}, not {value}")

    def _places(self) -> list[tuple[Place, tuple[str, ...]]]:
        """What could be pooled here, each with its readers."""
        if self.stage is None:
            return [(self.plan.survey.stem, ())]
        stage = self.stage
        return [(place, stage.readers if where == "before" else ()) for where, place in places_of(self.stage).items()]

    def _unknown(self, node: str, known: Iterable[str]) -> str:
        known = list(dict.fromkeys(known))
        if not known:
            return f"'{node}' can't stand here: {self.site.name} has nothing of that kind"
        return f"'{node}' isn't one of {', '.join(known)}.{did_you_mean(node, known)}"

    def _wrong(self, field: str, problem: str) -> PlanError:
        return PlanError(self.site.name, field, problem)


def _words(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "none"
