"""The planner: what was written, on what was measured, becomes a plan."""

from __future__ import annotations

from dataclasses import replace

from sapool.catalogue.poolings import REDUCED_PATCHES
from sapool.errors import InputError
from sapool.ir.architecture import Architecture, PoolingSpec
from sapool.ir.options import Options
from sapool.ir.placement import prepool_site, stage_site, stem_site
from sapool.ir.plan import Plan
from sapool.ir.site import Site
from sapool.ir.survey import Survey


def make_plan(architecture: Architecture, survey: Survey, options: Options) -> Plan:
    """Resolves an architecture, which has a stride for each stage, on a measured backbone.

    Raises:
        InputError: an out_index that the backbone doesn't have, or a place of it that can't be changed as asked.
    """
    plan = Plan(
        architecture=str(architecture),
        backbone=architecture.backbone,
        dynamic=architecture.dynamic,
        pools="first" if architecture.first_block else survey.pools,
        options=options,
        survey=survey,
        sites=(),
    )
    check_outputs(plan)
    stages = (_stage(plan, architecture, index) for index in range(len(survey.stages)))
    return replace(plan, sites=(_stem(architecture, survey), *stages))


def check_outputs(plan: Plan) -> None:
    """Passes where the backbone has the outputs that are asked for.

    Raises:
        InputError: it doesn't.
    """
    for index in plan.outputs:
        if not 0 <= index < len(plan.features):
            raise InputError(f"out_indices: {plan.backbone} has outputs 0 to {len(plan.features) - 1}, not {index}")


def _stem(architecture: Architecture, survey: Survey) -> Site:
    prepool = architecture.prepool
    if prepool is None:
        return stem_site(survey)
    pooling = prepool.pooling
    larger = pooling.reduced is not False
    return prepool_site(
        survey,
        architecture.backbone,
        pooling.kind,
        prepool.stride,
        heads=pooling.headfix,
        patch=prepool.stride if larger else None,
        ratio=0.25 if larger else 1.0,
        window=not pooling.nowin,
    )


def _stage(plan: Plan, architecture: Architecture, index: int) -> Site:
    pooling = architecture.pooling
    return stage_site(
        plan.survey,
        plan.backbone,
        index,
        pooling.kind,
        architecture.strides[index],
        where=plan.pools,
        projected=plan.projected(index + 1),
        heads=pooling.headfix,
        patch=_patch(pooling, index, len(plan.survey.stages)),
        window=not pooling.nowin,
    )


def _patch(pooling: PoolingSpec, index: int, stages: int) -> int:
    if pooling.reduced is False:
        return 1
    return (REDUCED_PATCHES[stages] if pooling.reduced is True else pooling.reduced)[index]
