"""The plan: every place of a backbone that can downsample, and what is done there, with all its numbers.

A plan is data. It prints as a table, goes to JSON and comes back, and the passes do what it says without asking the
architecture again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from sapool.architecture import Architecture, Pooling
from sapool.backbones import BACKBONES
from sapool.errors import InputError
from sapool.grammar import parse
from sapool.grammar.lowering import REDUCED_PATCHES
from sapool.survey import Place, Stage, Survey

Dialect = Literal["torchvision", "paper"]

FORMAT = "sapool-plan-1"
_ORIGIN = "as `sapoolc compile TEXT -o plan.json` writes it"


@dataclass(frozen=True)
class Site:
    """One place that can downsample.

    Attributes:
        name: `stem`, `prepool`, or `stage1`, `stage2`, ...
        action: `keep` what the backbone does, `stride` its convolutions otherwise, or `pool`.
        stride: the site's downsampling factor; `was` is the backbone's own.
        convs, conv_stride: the convolutions whose stride is set, and to what.
        removes: path of a module of the backbone that goes, or None.
        shortcut: path of the block that gets a projection shortcut in place of its identity, or None; and its
            channels in and out.
        anchor: name of the node whose value is pooled; `before` is the path of the block in front of which that
            happens, or None where the pool follows the node for all its users.
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
    convs: tuple[str, ...] = ()
    conv_stride: int | None = None
    removes: str | None = None
    shortcut: str | None = None
    shortcut_channels: tuple[int, int] | None = None
    anchor: str | None = None
    before: str | None = None
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
        InputError: an out_index that the backbone doesn't have.
    """
    features = [(stage.name, stage.last.node) for stage in survey.stages]
    if survey.head:
        features.append(("head", survey.head.node))
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
        sites=(_stem(architecture, survey), *_stages(architecture, survey, dialect)),
    )


def _stem(architecture: Architecture, survey: Survey) -> Site:
    prepool, stem = architecture.prepool, survey.stem
    if prepool is None:
        return Site("stem", "keep", survey.stem_stride, survey.stem_stride, stem.channels)
    pools = prepool.pooling.kind != "skip" and prepool.stride > 1
    site = Site(
        name="prepool",
        action="pool" if pools else "stride",
        stride=prepool.stride,
        was=survey.stem_stride,
        channels=stem.channels,
        convs=(survey.stem_conv,),
        conv_stride=1 if pools else prepool.stride,
        removes=survey.stem_pool,
    )
    if not pools:
        return site
    larger = prepool.pooling.reduced is not False
    patch, ratio = (prepool.stride, 0.25) if larger else (2, 1.0)
    return _with_pool(site, prepool.pooling, stem, heads=8, patch=patch, ratio=ratio)


def _stages(architecture: Architecture, survey: Survey, dialect: Dialect) -> list[Site]:
    backbone = BACKBONES[architecture.backbone]
    sites: list[Site] = []
    count = len(survey.stages)
    for index, (stage, stride) in enumerate(zip(survey.stages, architecture.strides, strict=True)):
        pools = stride > 1 and architecture.pooling.kind != "skip"
        conv_stride = 1 if pools else stride
        site = Site(stage.name, "keep", stride, stage.stride, stage.last.channels)
        if conv_stride != stage.stride:
            # Where the block has no convolution beside the strided one, an identity couldn't follow its stride.
            projected = stage.modules[0] if stage.open_shortcut and conv_stride > 1 else None
            site = replace(site, action="stride", convs=(stage.conv, *stage.shortcuts), conv_stride=conv_stride)
            site = replace(site, **_projection(projected, stage))
        if pools:
            before = stage.modules[0] if backbone.pool_before and not architecture.first_block else None
            place = stage.entry if before else stage.first if architecture.first_block else stage.last
            heads = 4 * 2**index if count == 4 else min(2 * 2**index, 128)
            site = _with_pool(site, architecture.pooling, place, heads, _patch(architecture.pooling, index, count), 1.0)
            published = dialect == "paper" and architecture.first_block and index + 1 in backbone.paper_shortcuts
            projected = stage.modules[0] if published and stage.open_shortcut else None
            site = replace(site, before=before, **_projection(projected, stage))
        sites.append(site)
    return sites


def _projection(block: str | None, stage: Stage) -> dict[str, Any]:
    return {"shortcut": block, "shortcut_channels": (stage.entry.channels, stage.first.channels) if block else None}


def _patch(pooling: Pooling, index: int, stages: int) -> int:
    if pooling.reduced is False:
        return 1
    return (REDUCED_PATCHES[stages] if pooling.reduced is True else pooling.reduced)[index]


def _with_pool(site: Site, pooling: Pooling, place: Place, heads: int, patch: int, ratio: float) -> Site:
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
