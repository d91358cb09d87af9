"""The plan: the program that the passes carry out. Every place of a backbone that can downsample, with all its numbers.

A plan is data. It prints as a table, goes to JSON and comes back, can be edited, and what it says is what is executed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from sapool.catalogue.backbones import BACKBONES, Pools
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import PlanError
from sapool.ir.options import Options
from sapool.ir.placement import prepool_site, stage_site
from sapool.ir.site import Site
from sapool.ir.survey import Survey

FORMAT = "sapool-plan-3"


@dataclass(frozen=True)
class Plan:
    """What will be done to a backbone.

    Attributes:
        architecture: the canonical text that was planned. Edits of the plan don't change it.
        backbone: the catalogue's name.
        dynamic: whether convolutions become dynamic.
        pools: where the stages' pools go.
        options: everything else that was asked.
        survey: what was found in the backbone.
        sites: what is done there, in order of execution.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    architecture: str
    backbone: str
    dynamic: bool
    pools: Pools
    options: Options
    survey: Survey
    sites: tuple[Site, ...]

    @property
    def features(self) -> tuple[tuple[str, str], ...]:
        """(name, node) of each output that detectors can use, in order."""
        return self.survey.features

    @property
    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(name, modules) of each part between stem and classifier."""
        return self.survey.parts

    @property
    def outputs(self) -> tuple[int, ...]:
        """Which features the model returns where it returns any."""
        indices = self.options.out_indices
        return tuple(range(len(self.features))) if indices is None else indices

    def site(self, name: str) -> Site:
        """The site of that name; KeyError where there is none."""
        return {site.name: site for site in self.sites}[name]

    def with_maps(self, maps: dict[str, tuple[int, int]]) -> Plan:
        """The plan with its sites' measured map sizes."""
        return replace(self, sites=tuple(replace(site, map=maps.get(site.name)) for site in self.sites))

    def with_options(self, **changes: Any) -> Plan:
        """The plan for other classes, images or outputs.

        Raises:
            InputError: an option that can't be so.
        """
        return replace(self, options=replace(self.options, **changes))

    def with_pool(
        self,
        site: str,
        kind: str,
        *,
        stride: int | None = None,
        heads: int | None = None,
        patch: int | None = None,
        window: bool = True,
    ) -> Plan:
        """The plan with another pooling at one site: `plan.with_pool("stage3", "lip")`.

        Args:
            site: `stage1`, ..., or `prepool`, which takes the place of the stem's own downsampling.
            kind: a pooling; `skip` for the backbone's own strided convolutions, `skipblur` for these with a filter.
            stride: the site's downsampling factor; None for the one that it has.
            heads, patch, window: of the pooling's attention; None for the site's usual number.

        Raises:
            PlanError: there is no such site or pooling.
            InputError: the backbone can't be changed so.
        """
        names = ["prepool", *(stage.name for stage in self.survey.stages)]
        if site not in names:
            raise PlanError(site, "name", f"there is no such site; there are {', '.join(names)}")
        index = names.index(site)
        stride = self.sites[index].stride if stride is None else stride
        numbers = {"heads": heads, "patch": patch, "window": window}
        if index == 0:
            made = prepool_site(self.survey, self.backbone, kind, stride, **numbers)  # type: ignore[arg-type]
        else:
            made = stage_site(
                self.survey, self.backbone, index - 1, kind, stride, where=self.pools, pools=True,
                projected=self.projected(index), **numbers,  # type: ignore[arg-type]
            )  # fmt: skip
        return replace(self, sites=(*self.sites[:index], made, *self.sites[index + 1 :]))

    def with_stride(self, site: str, stride: int) -> Plan:
        """The plan with another downsampling factor at one site, pooled as it was.

        Raises:
            PlanError: there is no such site.
            InputError: the backbone can't be changed so.
        """
        old = next((found for found in self.sites if found.name == site), None)
        if old is None or old.pool is None:
            return self.with_pool(site, "skip" if old is None else old.kind, stride=stride)
        attention = old.attention
        numbers = {} if attention is None else {"heads": attention.heads, "patch": attention.patch}
        window = attention is None or attention.window
        return self.with_pool(site, old.pool.kind, stride=stride, window=window, **numbers)

    def projected(self, stage: int) -> bool:
        """Whether the published network projects the shortcut of a stage (from 1) that pools after its first block."""
        entry = BACKBONES.get(self.backbone)
        published = entry is not None and stage in entry.paper_shortcuts
        return published and self.options.dialect == "paper" and self.pools == "first"

    def to_json(self) -> str:
        """The plan as a JSON object; `sapool.ir.plan_file.read` reads it back."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2)


COLUMNS = ("site", "action", "stride", "pooling", "channels", "map", "heads", "patch", "embedding", "window", "tokens")


def table(plan: Plan) -> list[tuple[str, ...]]:
    """The plan's sites as rows under `COLUMNS`; empty strings where a number doesn't apply."""
    return [_row(site) for site in plan.sites]


def _row(site: Site) -> tuple[str, ...]:
    size = "x".join(map(str, site.map)) if site.map else ""
    kind = site.kind if site.kind != "skip" else ""
    start = (site.name, site.action, str(site.stride), kind, str(site.channels), size)
    numbers = site.attention
    if numbers is None:
        return (*start, "", "", "", "", "")
    window = ("yes" if numbers.window else "no") if POOLINGS.find(kind).takes_modifiers else ""
    tokens = "" if site.tokens is None else str(site.tokens)
    return (*start, str(numbers.heads), str(numbers.patch), str(numbers.embedding), window, tokens)
