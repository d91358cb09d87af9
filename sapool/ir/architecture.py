"""The intermediate representation: what an architecture string says, and nothing that it doesn't.

Frozen, hashable, free of torch. `str()` of each part is its canonical text, and parsing that text gives the part back.
"""

from __future__ import annotations

from dataclasses import dataclass

from sapool.catalogue.poolings import POOLINGS, PoolingType


@dataclass(frozen=True)
class PoolingSpec:
    """A pooling as it is written: its kind and its modifiers.

    Attributes:
        kind: a key of `sapool.catalogue.poolings.POOLINGS`.
        headfix: attention heads at every site, or None for the site's own number.
        nowin: whether window normalisation is off, y = A(x·w) in place of A(x·w)/A(w).
        reduced: False, True for the larger patches, or one patch size per stage.
    """

    kind: str
    headfix: int | None = None
    nowin: bool = False
    reduced: bool | tuple[int, ...] = False

    @property
    def entry(self) -> PoolingType:
        """The catalogue entry of this kind."""
        return POOLINGS[self.kind]

    def __str__(self) -> str:
        text = self.kind
        if self.headfix is not None:
            text += f"_headfix{self.headfix}"
        if self.nowin:
            text += "_nowin"
        if self.reduced is not False:
            text += "_reduced" + ("" if self.reduced is True else "".join(map(str, self.reduced)))
        return text


@dataclass(frozen=True)
class Prepool:
    """A pooling right after the stem, in place of the stem's own downsampling.

    Attributes:
        pooling: what pools there.
        stride: the stem's whole downsampling factor.
    """

    pooling: PoolingSpec
    stride: int

    def __str__(self) -> str:
        return f"prepool-{self.pooling}-{self.stride}"


@dataclass(frozen=True)
class Architecture:
    """One string of the language (semantics: `[prepool-<pooling>-<stride>-][dy]<backbone>[_v2]-<pooling>-<strides>`).

    Attributes:
        backbone: a name of the catalogue, `sapool.catalogue.backbones.BACKBONES`.
        pooling: what replaces the downsampling of the stages.
        strides: each stage's downsampling factor, 1 to 9.
        prepool: the pooling after the stem, or None for the backbone's own stem.
        dynamic: whether convolutions are dynamic (`dy`).
        first_block: whether pools follow the first block of their stage (`_v2`) rather than the default place.
    """

    backbone: str
    pooling: PoolingSpec
    strides: tuple[int, ...]
    prepool: Prepool | None = None
    dynamic: bool = False
    first_block: bool = False

    def __str__(self) -> str:
        prepool = f"{self.prepool}-" if self.prepool else ""
        backbone = ("dy" if self.dynamic else "") + self.backbone + ("_v2" if self.first_block else "")
        return f"{prepool}{backbone}-{self.pooling}-{''.join(map(str, self.strides))}"
