"""Planning: from text, or from a plan's file, to a plan."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from sapool.analysis.source import Given, Named, Source
from sapool.analysis.survey import Stages
from sapool.catalogue.backbones import BACKBONES, OWN, PUBLISHED, TIMM, Pools, has_paper_dialect
from sapool.errors import InputError, did_you_mean
from sapool.grammar import check_strides, parse
from sapool.ir import planner
from sapool.ir.architecture import Architecture
from sapool.ir.options import Dialect, Options
from sapool.ir.plan import Plan
from sapool.ir.plan_file import EarlierPlan, from_json, is_plan_file, read_text
from sapool.ir.survey import Survey


def make_plan(
    text: str | Architecture,
    *,
    backbone: nn.Module | None = None,
    stages: Stages | None = None,
    pools: Pools | None = None,
    **options: Any,
) -> Plan:
    """What will be done for an architecture: a plan to print, to edit, and to execute.

    Args:
        text: an architecture string, or a parsed one.
        backbone, stages, pools: a network of your own, as for `compile`.
        options: `num_classes`, `in_chans`, `image_size`, `dialect`, `features_only`, `out_indices`, as for `compile`.

    Raises:
        ArchitectureError, InputError: as `compile`.
    """
    architecture = text if isinstance(text, Architecture) else parse(text, own=backbone is not None)
    given = _options(options)
    return plan_on(architecture, source_of(architecture.backbone, backbone, given.dialect, stages, pools), given)


def plan_for(text: str | Plan, **options: Any) -> Plan:
    """The plan of a text, or of a plan's file where the text names one; `options` take the place of the plan's own.

    Raises:
        InputError: it can't be read or planned.
    """
    if isinstance(text, Plan) or is_plan_file(text):
        plan = text if isinstance(text, Plan) else read_plan(text)
        return plan.with_options(**options)
    return make_plan(text, **options)


def read_plan(path: str | Path) -> Plan:
    """Reads the file that `sapoolc compile TEXT -o plan.json` wrote, of this version or an earlier one.

    Raises:
        InputError: it isn't a plan, or can't be read.
    """
    return plan_from_json(read_text(path), str(path))


def plan_from_json(text: str, source: str = "this") -> Plan:
    """The plan that a JSON text holds, of this version or an earlier one; `source` is for messages.

    Raises:
        InputError: it isn't a plan.
    """
    found = from_json(text, source)
    return _renewed(found) if isinstance(found, EarlierPlan) else found


def _renewed(earlier: EarlierPlan) -> Plan:
    """A plan of the format before this one, which didn't say what was found in the backbone."""
    plan = make_plan(earlier.architecture, **earlier.options)
    for site in earlier.sites:
        now = next((found for found in plan.sites if found.name == site["name"]), None)
        kind = site["kind"] or "skip"
        if now is None or (kind, site["stride"]) == (now.kind, now.stride):
            continue
        numbers = {name: site[name] for name in ("heads", "patch") if site[name] is not None}
        plan = plan.with_pool(site["name"], kind, stride=site["stride"], window=site["window"] is not False, **numbers)
    return plan


def edits(plan: Plan) -> tuple[str, ...]:
    """Where a plan differs from what its text says, in words: `stage3.pool.kind: nlp -> lip`."""
    own = planner.make_plan(parse(plan.architecture), plan.survey, plan.options)
    if own.sites == tuple(replace(site, map=None) for site in plan.sites):
        return ()
    pairs = zip(own.sites, plan.sites, strict=True)
    return tuple(
        f"{name}: {json.dumps(before)} -> {json.dumps(after)}"
        for ours, theirs in pairs
        for name, before, after in _differences(ours.name, asdict(ours), asdict(replace(theirs, map=None)))
    )


def _differences(name: str, before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        return [found for key in before for found in _differences(f"{name}.{key}", before[key], after[key])]
    return [] if before == after else [(name, before, after)]


def survey(backbone: str | nn.Module, *, stages: Stages | None = None, pools: Pools | None = None) -> Survey:
    """What there is to rewrite in a backbone: its stem, its stages and their strides, as measured. Prints as a table.

    Args:
        backbone: a name of the catalogue, `timm:NAME`, or a network of your own.
        stages: of a network of your own, paths of its stages' modules in order; several paths are one stage.
        pools: of a network of your own, where a stage's pool goes: `before`, `first` or `last` of its blocks.

    Raises:
        InputError: there is no such backbone, or it can't be rewritten; says why.
    """
    if isinstance(backbone, nn.Module):
        return Given(backbone, stages, pools).survey
    _check_own(backbone, stages, pools)
    if backbone not in BACKBONES and not backbone.startswith(TIMM):
        hint = did_you_mean(backbone, BACKBONES)
        raise InputError(f"there is no backbone '{backbone}' (sapoolc list backbones).{hint}")
    return Named(backbone).survey


def _options(given: dict[str, Any]) -> Options:
    unknown = [name for name in given if name not in Options.__dataclass_fields__]
    if unknown:
        raise TypeError(f"there is no option {unknown[0]}.{did_you_mean(unknown[0], Options.__dataclass_fields__)}")
    return Options(**given)


def _check_own(name: str, stages: Stages | None, pools: Pools | None) -> None:
    """Refuses to name stages of a backbone that has its own."""
    if stages is not None or pools is not None:
        what = "stages" if stages is not None else "pools"
        raise InputError(f"{what}: they are of a network of your own; {name} is surveyed as it is")


def source_of(
    name: str,
    backbone: nn.Module | None,
    dialect: Dialect,
    stages: Stages | None = None,
    pools: Pools | None = None,
    like: Survey | None = None,
) -> Source:
    """The backbone of that name, or the caller's own, traced and surveyed.

    Args:
        name: as the architecture has it.
        backbone: the caller's own.
        dialect: whose network is meant.
        stages, pools, like: of the caller's own, as `Given` takes them.

    Raises:
        InputError: there is none, or it can't be rewritten.
    """
    if dialect == "paper" and not has_paper_dialect(name):
        known = ", ".join((*PUBLISHED, f"{TIMM}mobilenetv2_..."))
        raise InputError(f"dialect: 'paper' is of the published networks, {known}; {name} isn't one of them")
    if backbone is None:
        _check_own(name, stages, pools)
        return Named(name)
    if name != OWN:
        raise InputError(f"with a backbone of your own the text has no name for one: leave out '{name}', or backbone=")
    return Given(backbone, stages, pools, like)


def plan_on(architecture: Architecture, source: Source, options: Options) -> Plan:
    """The plan of an architecture on a surveyed backbone.

    Raises:
        ArchitectureError: it has another number of strides than the backbone has stages.
        InputError: the backbone can't be changed as asked.
    """
    check_strides(architecture, source.survey.unchanged)
    if isinstance(source, Given):
        channels = source.channels()
        if options.in_chans not in (channels, Options.in_chans):
            raise InputError(
                f"in_chans: {source.name} takes images of {channels} channels, not of {options.in_chans}; change its "
                "first convolution"
            )
        classes = source.classes(options.image_size, features_only=options.features_only)
        options = replace(options, num_classes=classes, in_chans=channels)
    return planner.make_plan(architecture, source.survey, options)
