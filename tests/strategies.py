"""Hypothesis strategies: random architectures of the language, and how a careless hand might write them."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from sapool.catalogue.backbones import BACKBONES
from sapool.catalogue.poolings import POOLINGS
from sapool.grammar.lowering import REDUCED_PATCHES
from sapool.ir.architecture import Architecture, PoolingSpec, Prepool

MOST_HEADS, LARGEST_PREPOOL, LARGEST_DIGIT = 4096, 256, 9


@st.composite
def architectures(draw: st.DrawFn, most: int | None = None) -> Architecture:
    """Any architecture of the language, or a published backbone's that downsamples by `most` in all, or less.

    The stem's own downsampling is included.
    """
    known = [entry for entry in BACKBONES.values() if most is None or entry.paper is not None]
    backbone = draw(st.sampled_from(known))
    prepool: Prepool | None = None
    room = most
    if draw(st.booleans()):
        stride = draw(st.integers(1, min(LARGEST_PREPOOL, room or LARGEST_PREPOOL)))
        prepool = Prepool(draw(poolings(None)), stride)
        room = room and room // stride
    else:
        room = room and max(room // 4, 1)
    strides: list[int] = []
    for _ in backbone.stages:
        strides.append(draw(st.integers(1, min(LARGEST_DIGIT, room or LARGEST_DIGIT))))
        room = room and room // strides[-1]
    return Architecture(
        backbone=backbone.name,
        pooling=draw(poolings(tuple(strides))),
        strides=tuple(strides),
        prepool=prepool,
        dynamic=draw(st.booleans()),
        first_block=draw(st.booleans()),
    )


@st.composite
def poolings(draw: st.DrawFn, strides: tuple[int, ...] | None) -> PoolingSpec:
    """Any pooling for stages of these strides, or for a prepool (None)."""
    kind = draw(st.sampled_from(list(POOLINGS.values())))
    if not kind.takes_modifiers:
        return PoolingSpec(kind.name)
    # Without digits it is defined for two numbers of stages only.
    defined = strides is None or len(strides) in REDUCED_PATCHES
    reduced: st.SearchStrategy[bool | tuple[int, ...]] = st.booleans() if defined else st.just(False)
    if strides is not None:
        # A patch of 0 says that a stage has no pool, which is so where its stride is 1.
        reduced |= st.tuples(*(st.integers(0 if stride == 1 else 1, LARGEST_DIGIT) for stride in strides))
    headfix = draw(st.none() | st.integers(1, 16) | st.integers(1, MOST_HEADS))
    return PoolingSpec(kind.name, headfix=headfix, nowin=draw(st.booleans()), reduced=draw(reduced))


@st.composite
def sloppy_spellings(draw: st.DrawFn, architecture: Architecture) -> str:
    """A string that means `architecture`: letters in any case, modifiers in any order."""
    rng = draw(st.randoms(use_true_random=False))
    backbone = (
        ("dy" if architecture.dynamic else "") + architecture.backbone + ("_v2" if architecture.first_block else "")
    )
    prepool = architecture.prepool
    parts = ["prepool", _shuffled(prepool.pooling, rng), str(prepool.stride)] if prepool else []
    parts += [backbone, _shuffled(architecture.pooling, rng), "".join(map(str, architecture.strides))]
    return "".join(rng.choice((c.lower(), c.upper())) for c in "-".join(parts))


def _shuffled(pooling: PoolingSpec, rng: random.Random) -> str:
    """A pooling's text, its modifiers in any order."""
    if not POOLINGS[pooling.kind].takes_modifiers:
        return pooling.kind  # gaussian_pool is one word
    kind, *modifiers = str(pooling).split("_")
    rng.shuffle(modifiers)
    return "_".join([kind, *modifiers])
