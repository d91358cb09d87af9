"""What is done at a site, as records: the rules of semantics §2 and §3, applied to what was measured."""

from __future__ import annotations

from dataclasses import replace

from sapool.catalogue.backbones import Pools
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import InputError
from sapool.ir.site import Attention, Pool, Restride, Shortcut, Site
from sapool.ir.survey import Place, Stage, Strides, Survey


def stem_site(survey: Survey) -> Site:
    """The backbone's own stem."""
    return Site("stem", survey.stem_stride, survey.stem_stride, survey.stem.channels)


def prepool_site(
    survey: Survey,
    backbone: str,
    kind: str,
    stride: int,
    *,
    heads: int | None = None,
    patch: int | None = None,
    ratio: float = 1.0,
    window: bool = True,
) -> Site:
    """A pooling of the stem's map at once, or a stride of the stem's first convolution where `kind` keeps strides.

    Raises:
        InputError: the stem can't be given that stride; says why.
    """
    pools = not POOLINGS.find(kind).keeps_strides and stride > 1
    site = Site("prepool", stride, survey.stem_stride, survey.stem.channels)
    own = 1 if pools else stride
    site = replace(site, restride=_restride(site, backbone, survey.strides, survey.candidates, own, kind))
    if not pools:
        return site
    attention = attention_of(kind, survey.stem.channels, heads=heads or 8, patch=patch or 2, ratio=ratio, window=window)
    return replace(site, pool=Pool(kind, survey.stem.node, survey.stem.channels, attention=attention))


def stage_site(
    survey: Survey,
    backbone: str,
    index: int,
    kind: str,
    stride: int,
    *,
    where: Pools,
    projected: bool = False,
    pools: bool | None = None,
    heads: int | None = None,
    patch: int | None = None,
    window: bool = True,
) -> Site:
    """A stage that downsamples by a stride: by pooling, or by its own convolutions where `kind` keeps strides.

    Args:
        survey: the backbone.
        backbone: its name, for messages.
        index: of the stage, from 0.
        kind: a pooling; `skip` for none, `skipblur` for a filter at each of the stage's own convolutions that stride.
        stride: the stage's downsampling factor.
        where: where its pool goes.
        projected: whether a stage that pools gets a projection shortcut in any case (semantics §2, `paper`).
        pools: whether it pools; None for the language's rule, which pools where the stride isn't 1.
        heads, patch, window: of its attention; None for the stage's own number.

    Raises:
        InputError: the stage can't be given that stride; says why.
    """
    stage = survey.stages[index]
    if pools is None:
        pools = stride > 1
    entry = POOLINGS.find(kind)
    pools = pools and not entry.keeps_strides
    own = 1 if pools else stride
    site = Site(stage.name, stride, stage.stride, stage.last.channels)
    if own != stage.stride or (entry.filters and own > 1):
        site = replace(site, restride=_restride(site, backbone, stage.strides, stage.candidates, own, kind))
        # Where the block has no convolution beside the strided one, an identity couldn't follow its stride.
        if stage.stride == 1 and stage.shortcuts:
            site = replace(site, shortcut=shortcut_of(stage, backbone))
    if not pools:
        return site
    if projected and stage.shortcuts:
        site = replace(site, shortcut=shortcut_of(stage, backbone))
    place = places_of(stage)[where]
    heads = heads or stage_heads(index, len(survey.stages))
    attention = attention_of(kind, place.channels, heads=heads, patch=patch or 1, window=window)
    readers = stage.readers if where == "before" else ()
    return replace(site, channels=place.channels, pool=Pool(kind, place.node, place.channels, readers, attention))


def places_of(stage: Stage) -> dict[Pools, Place]:
    """The values of a stage that can be pooled."""
    return {"before": stage.entry, "first": stage.first, "last": stage.last}


def stage_heads(index: int, stages: int) -> int:
    """Attention heads of a stage, from 0, of so many (semantics §3)."""
    return int(4 * 2**index if stages <= 4 else min(2 * 2**index, 128))


def attention_of(
    kind: str, channels: int, *, heads: int, patch: int, ratio: float = 1.0, window: bool = True
) -> Attention | None:
    """The numbers of a pooling's attention for a map of so many channels; None where its kind has none."""
    role = POOLINGS.find(kind).attention
    if role == "":
        return None
    if role == "output":
        heads, patch, ratio, window = 2, 1, 1.0, True
    # Python rounds halves to even, as the published code does.
    return Attention(heads, patch, max(round(ratio * channels / heads), 1) * heads, window)


def shortcut_of(stage: Stage, backbone: str) -> Shortcut:
    """The projection shortcut of a stage's first block.

    Raises:
        InputError: the block has several ways past its convolutions.
    """
    if len(stage.shortcuts) > 1:
        raise InputError(
            f"{backbone}: {stage.block} has {len(stage.shortcuts)} ways past its convolutions, "
            f"so {stage.name} can't be given a stride there; choose a pooling in place of skip"
        )
    return Shortcut(stage.block, stage.shortcuts[0], (stage.entry.channels, stage.first.channels))


def _restride(site: Site, backbone: str, own: Strides, candidates: tuple[str, ...], stride: int, kind: str) -> Restride:
    """`stride` in place of the backbone's own: its first operations take it, later ones keep the resolution."""
    filtered = kind if POOLINGS.find(kind).filters and stride > 1 else ""
    if own.fixed:
        if filtered and stride == site.was:
            raise InputError(
                f"{backbone}: the stride of {site.name} is in {', '.join(own.fixed)}, which can't be carried out at "
                f"stride 1 before {kind}; choose skip, which keeps it"
            )
        raise InputError(
            f"{backbone}: the stride of {site.name} is in {', '.join(own.fixed)}, which can't be given another one; "
            f"keep it at {site.was}"
        )
    removable = dict(own.pools)
    first = list(own.first) if stride > 1 else []
    # The pooling of a stem isn't what a prepool strides.
    unfit = set(first) <= set(removable) if site.name == "prepool" else not first
    if stride > 1 and unfit and not (first := list(candidates)):
        raise InputError(
            f"{backbone}: {site.name} has no convolution that a stride of {stride} could be given to; choose a pooling "
            "in place of skip"
        )
    padding = {removable.get(node) for node in first}
    removes = tuple(node for node in removable if node not in first and node not in padding)
    rest = [node for node in (*own.first, *own.later) if node not in first and node not in removable]
    return Restride((*((node, stride) for node in first), *((node, 1) for node in rest)), removes, filtered)
