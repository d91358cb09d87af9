"""The plan: every place of a backbone that can downsample, and what is done there, with all its numbers.

A plan is data. It prints as a table, goes to JSON and comes back, and the passes do what it says without asking the
architecture again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

from sapool.analysis.survey import Place, Stage, Strides, Survey
from sapool.catalogue.backbones import BACKBONES, Pools
from sapool.catalogue.poolings import REDUCED_PATCHES
from sapool.errors import InputError
from sapool.grammar import check_strides, parse
from sapool.ir.architecture import Architecture, PoolingSpec

Dialect = Literal["torchvision", "paper"]

FORMAT = "sapool-plan-2"
_ORIGIN = "as `sapoolc compile TEXT -o plan.json` writes it"


@dataclass(frozen=True)
class Site:
    """One place that can downsample.

    Attributes:
        name: `stem`, `prepool`, or `stage1`, `stage2`, ...
        action: `keep` what the backbone does, `stride` its convolutions otherwise, or `pool`.
        stride: the site's downsampling factor; `was` is the backbone's own.
        strides: nodes of the backbone whose stride is set, each with its new one.
        removes: nodes of the backbone that go; what they read takes their place.
        shortcut: path of the block that gets a projection shortcut in place of its identity, or None; with its channels
            in and out, and the node with which the identity begins.
        anchor: name of the node whose value is pooled; `readers` are the nodes for which that happens, none where it
            does for all.
        channels: of the pooled map, or of the site's output where nothing is pooled.
        kind, heads, patch, ratio, embedding, window: the pooling's numbers (semantics §3), or None.
        map: (height, width) of the pooled map, or of the convolutions' input; measured at the plan's image size.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    action: Literal["keep", "stride", "pool"]
    stride: int
    was: int
    channels: int
    strides: tuple[tuple[str, int], ...] = ()
    removes: tuple[str, ...] = ()
    shortcut: str | None = None
    shortcut_channels: tuple[int, int] | None = None
    shortcut_reader: str | None = None
    anchor: str | None = None
    readers: tuple[str, ...] = ()
    kind: str | None = None
    heads: int | None = None
    patch: int | None = None
    ratio: float | None = None
    embedding: int | None = None
    window: bool | None = None
    map: tuple[int, int] | None = None

    @property
    def module(self) -> str:
        """The path under which a pool of this site stands, `pools.<site>`."""
        return f"pools.{self.name}"

    @property
    def tokens(self) -> int | None:
        """How many tokens attend to each other, where there is attention and the map is measured."""
        if self.patch is None or self.map is None:
            return None
        return (self.map[0] // self.patch) * (self.map[1] // self.patch)


@dataclass(frozen=True)
class Plan:
    """What will be done to a backbone.

    Attributes:
        architecture: canonical text.
        backbone: the catalogue's name.
        dialect: `torchvision`, or `paper` for the published network where the two differ.
        num_classes: outputs of the classifier.
        image_size: side of the square images that maps are measured with.
        features_only: whether the model returns stage outputs in place of logits.
        out_indices: which ones, from 0; None for all.
        dynamic: whether convolutions become dynamic.
        features: (name, node) of each output that detectors can use, in order.
        parts: (name, modules) of each stage, and of the last convolution where detectors use it; what comes before is
            the stem, what comes after the classifier.
        sites: in order of execution.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    architecture: str
    backbone: str
    dialect: Dialect
    num_classes: int
    image_size: int
    features_only: bool
    out_indices: tuple[int, ...] | None
    dynamic: bool
    features: tuple[tuple[str, str], ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    sites: tuple[Site, ...]

    @property
    def architecture_parsed(self) -> Architecture:
        """The architecture that was planned."""
        return parse(self.architecture)

    def site(self, name: str) -> Site:
        """The site of that name; KeyError where there is none."""
        return {site.name: site for site in self.sites}[name]

    def with_maps(self, maps: dict[str, tuple[int, int]]) -> Plan:
        """The plan with its sites' measured map sizes."""
        return replace(self, sites=tuple(replace(site, map=maps.get(site.name)) for site in self.sites))

    def to_json(self) -> str:
        """The plan as a JSON object; `from_json` reads it back."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str, source: str = "this") -> Plan:
        """Reads what `to_json` wrote; `source` is for messages.

        Raises:
            InputError: the text isn't a plan.
        """
        from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - plans are made more often than read

        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise ValueError
            plan = TypeAdapter(cls).validate_json(json.dumps(data), strict=True)
            if str(plan.architecture_parsed) != plan.architecture or plan.architecture_parsed.backbone != plan.backbone:
                raise ValueError
        except (ValidationError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise InputError(f"{source} isn't a plan: expected the JSON of format '{FORMAT}', {_ORIGIN}") from None
        return plan


def make_plan(
    architecture: Architecture,
    survey: Survey,
    *,
    dialect: Dialect = "torchvision",
    num_classes: int = 1000,
    image_size: int = 224,
    features_only: bool = False,
    out_indices: tuple[int, ...] | None = None,
) -> Plan:
    """Resolves an architecture on a measured backbone.

    Raises:
        ArchitectureError: another number of strides than the backbone has stages.
        InputError: an out_index that the backbone doesn't have, or a place of it that can't be changed as asked.
    """
    check_strides(architecture, survey.unchanged)
    features = [(stage.name, stage.last.node) for stage in survey.stages]
    parts = [(stage.name, stage.modules) for stage in survey.stages]
    if survey.head:
        features.append(("head", survey.head.node))
        parts.append(("head", survey.head_modules))
    for index in out_indices or ():
        if not 0 <= index < len(features):
            raise InputError(f"out_indices: {architecture.backbone} has outputs 0 to {len(features) - 1}, not {index}")
    return Plan(
        architecture=str(architecture),
        backbone=architecture.backbone,
        dialect=dialect,
        num_classes=num_classes,
        image_size=image_size,
        features_only=features_only,
        out_indices=out_indices,
        dynamic=architecture.dynamic,
        features=tuple(features),
        parts=tuple(parts),
        sites=_Planner(architecture, survey, dialect).sites(),
    )


class _Planner:
    """Goes through a backbone's places in order."""

    def __init__(self, architecture: Architecture, survey: Survey, dialect: Dialect) -> None:
        self.architecture, self.survey, self.dialect = architecture, survey, dialect
        self.place: Pools = "first" if architecture.first_block else survey.pools

    def sites(self) -> tuple[Site, ...]:
        return (self._stem(), *(self._stage(index) for index in range(len(self.survey.stages))))

    def _stem(self) -> Site:
        prepool, survey = self.architecture.prepool, self.survey
        if prepool is None:
            return Site("stem", "keep", survey.stem_stride, survey.stem_stride, survey.stem.channels)
        pools = prepool.pooling.kind != "skip" and prepool.stride > 1
        site = Site(
            name="prepool",
            action="pool" if pools else "stride",
            stride=prepool.stride,
            was=survey.stem_stride,
            channels=survey.stem.channels,
        )
        site = self._strided(site, survey.strides, survey.candidates, 1 if pools else prepool.stride)
        if not pools:
            return site
        larger = prepool.pooling.reduced is not False
        patch, ratio = (prepool.stride, 0.25) if larger else (2, 1.0)
        return self._pooled(site, prepool.pooling, survey.stem, heads=8, patch=patch, ratio=ratio)

    def _stage(self, index: int) -> Site:
        stage, stride = self.survey.stages[index], self.architecture.strides[index]
        pools = stride > 1 and self.architecture.pooling.kind != "skip"
        own = 1 if pools else stride
        site = Site(stage.name, "keep", stride, stage.stride, stage.last.channels)
        if own != stage.stride:
            site = self._strided(replace(site, action="stride"), stage.strides, stage.candidates, own)
            # Where the block has no convolution beside the strided one, an identity couldn't follow its stride.
            if stage.stride == 1 and stage.shortcuts:
                site = self._projected(site, stage)
        if not pools:
            return site
        place = {"before": stage.entry, "first": stage.first, "last": stage.last}[self.place]
        count, pooling = len(self.survey.stages), self.architecture.pooling
        heads = 4 * 2**index if count <= 4 else min(2 * 2**index, 128)
        site = self._pooled(site, pooling, place, heads, _patch(pooling, index, count), 1.0)
        if self.place == "before":
            site = replace(site, readers=stage.readers)
        entry = BACKBONES.get(self.architecture.backbone)
        published = entry is not None and index + 1 in entry.paper_shortcuts
        if published and self.dialect == "paper" and self.architecture.first_block and stage.shortcuts:
            site = self._projected(site, stage)
        return site

    def _strided(self, site: Site, own: Strides, candidates: tuple[str, ...], stride: int) -> Site:
        """The site with `stride` in place of the backbone's own: its first operations take it, later ones keep on."""
        name = self.architecture.backbone
        if own.fixed:
            raise InputError(
                f"{name}: the stride of {site.name} is in {', '.join(own.fixed)}, which can't be given another one; "
                f"keep it at {site.was}"
            )
        removable = dict(own.pools)
        first = list(own.first) if stride > 1 else []
        # The pooling of a stem isn't what a prepool strides.
        unfit = set(first) <= set(removable) if site.name == "prepool" else not first
        if stride > 1 and unfit and not (first := list(candidates)):
            raise InputError(
                f"{name}: {site.name} has no convolution that a stride of {stride} could be given to; choose a pooling "
                "in place of skip"
            )
        padding = {removable.get(node) for node in first}
        removes = [node for node in removable if node not in first and node not in padding]
        rest = [node for node in (*own.first, *own.later) if node not in first and node not in removable]
        strides = [*((node, stride) for node in first), *((node, 1) for node in rest)]
        return replace(site, strides=tuple(strides), removes=tuple(removes))

    def _projected(self, site: Site, stage: Stage) -> Site:
        if len(stage.shortcuts) > 1:
            raise InputError(
                f"{self.architecture.backbone}: {stage.block} has {len(stage.shortcuts)} ways past its convolutions, "
                f"so {site.name} can't be given a stride there; choose a pooling in place of skip"
            )
        channels = (stage.entry.channels, stage.first.channels)
        return replace(site, shortcut=stage.block, shortcut_channels=channels, shortcut_reader=stage.shortcuts[0])

    def _pooled(self, site: Site, pooling: PoolingSpec, place: Place, heads: int, patch: int, ratio: float) -> Site:
        """The site with a pool on `place`, and the pool's own numbers where its kind has any."""
        site = replace(site, action="pool", kind=pooling.kind, anchor=place.node, channels=place.channels)
        if pooling.entry.attention == "":
            return site
        if pooling.entry.attention == "output":
            heads, patch, ratio = 2, 1, 1.0
        heads = pooling.headfix or heads
        # Python rounds halves to even, as the published code does.
        embedding = max(round(ratio * place.channels / heads), 1) * heads
        window = not pooling.nowin if pooling.entry.takes_modifiers else None
        return replace(site, heads=heads, patch=patch, ratio=ratio, embedding=embedding, window=window)


def _patch(pooling: PoolingSpec, index: int, stages: int) -> int:
    if pooling.reduced is False:
        return 1
    return (REDUCED_PATCHES[stages] if pooling.reduced is True else pooling.reduced)[index]


COLUMNS = ("site", "action", "stride", "pooling", "channels", "map", "heads", "patch", "embedding", "window", "tokens")


def table(plan: Plan) -> list[tuple[str, ...]]:
    """The plan's sites as rows under `COLUMNS`; empty strings where a number doesn't apply."""

    def text(value: object) -> str:
        return "" if value is None else str(value)

    rows: list[tuple[str, ...]] = []
    for site in plan.sites:
        window = {None: "", True: "yes", False: "no"}[site.window]
        size = "x".join(map(str, site.map)) if site.map else ""
        rows.append(
            (site.name, site.action, str(site.stride), text(site.kind), str(site.channels), size, text(site.heads),
             text(site.patch), text(site.embedding), window, text(site.tokens))
        )  # fmt: skip
    return rows
