"""What a backbone offers to a plan: its stem and stages with their nodes, channels and strides, as measured.

`sapool.analysis.survey` measures; here is what it finds, as plain data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sapool.catalogue.backbones import PLACES, Pools


@dataclass(frozen=True)
class Place:
    """A value of the graph that could be pooled.

    Attributes:
        node: its name in the graph.
        channels: its C.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    node: str
    channels: int


@dataclass(frozen=True)
class Strides:
    """Operations that share in one place's downsampling, side by side or one after the other.

    Attributes:
        first: the nodes that lower the resolution first, all by the same factor.
        later: those that lower it further.
        pools: those of both that are poolings with nothing beside them, so that they can go, each with the node that
            then takes its place.
        fixed: nodes that lower the resolution and have no stride that could be changed.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    first: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    pools: tuple[tuple[str, str], ...] = ()
    fixed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join((*self.first, *self.later, *self.fixed))


@dataclass(frozen=True)
class Stage:
    """A stage of the backbone.

    Attributes:
        name: `stage1`, `stage2`, ...
        modules: paths of its modules, or names of its nodes that are operations between modules.
        block: path of its first block.
        strides: its own downsampling operations.
        candidates: nodes that a stride can be given to where there are none: the first block's first convolution of
            those with a kernel larger than 1×1, and the convolutions parallel to it.
        shortcuts: nodes with which the first block's ways without any convolution begin (identity shortcuts).
        stride: the stage's downsampling factor.
        entry, first, last: what the stage reads, what its first block returns, what its last block returns.
        readers: nodes of the stage that read its entry.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    modules: tuple[str, ...]
    block: str
    strides: Strides
    candidates: tuple[str, ...]
    shortcuts: tuple[str, ...]
    stride: int
    entry: Place
    first: Place
    last: Place
    readers: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Survey:
    """A measured backbone. Prints as a table of what was found.

    Attributes:
        strides: the stem's downsampling operations.
        candidates: a convolution of the stem that a stride can be given to where none has one.
        stem: the map that a prepool takes: the stem's last, before the stem's pooling.
        stem_stride: the stem's downsampling factor, pooling included.
        stages: in order.
        head: the last convolution's output, or None; `head_modules` are its paths.
        pools: where a stage's pool goes unless the architecture says otherwise.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    strides: Strides
    candidates: tuple[str, ...]
    stem: Place
    stem_stride: int
    stages: tuple[Stage, ...]
    head: Place | None
    head_modules: tuple[str, ...]
    pools: Pools

    def __repr__(self) -> str:
        reduction = self.stem_stride
        rows: list[tuple[str, ...]] = [("place", "channels", "stride", "reduction", "downsampled by", "modules")]
        rows.append(("stem", str(self.stem.channels), str(reduction), str(reduction), str(self.strides), ""))
        for stage in self.stages:
            reduction *= stage.stride
            modules = " ... ".join(dict.fromkeys((stage.modules[0], stage.modules[-1])))
            numbers = (stage.last.channels, stage.stride, reduction)
            rows.append((stage.name, *map(str, numbers), str(stage.strides), modules))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, f"pools go {PLACES[self.pools]} of a stage; strides {self.unchanged} change nothing"])

    @property
    def unchanged(self) -> str:
        """The strides string that keeps the backbone as it is."""
        return "".join(str(stage.stride) for stage in self.stages)

    @property
    def features(self) -> tuple[tuple[str, str], ...]:
        """(name, node) of each output that detectors can use, in order."""
        head = (("head", self.head.node),) if self.head else ()
        return (*((stage.name, stage.last.node) for stage in self.stages), *head)

    @property
    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(name, modules) of each stage, and of the last convolution where detectors use it.

        What comes before is the stem, what comes after the classifier.
        """
        head = (("head", self.head_modules),) if self.head else ()
        return (*((stage.name, stage.modules) for stage in self.stages), *head)
