"""Sites: the places of a backbone that can downsample, and what is done at each, in a few small records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Action = Literal["keep", "stride", "pool"]


@dataclass(frozen=True)
class Restride:
    """Strides in place of the backbone's own.

    Attributes:
        strides: nodes of the backbone whose stride is set, each with its new one.
        removes: nodes of the backbone that go; what they read takes their place.
        filter: the pooling that filters where a stride is larger than 1, which is then carried out at stride 1 and
            subsampled by the filter; "" for none.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    strides: tuple[tuple[str, int], ...] = ()
    removes: tuple[str, ...] = ()
    filter: str = ""


@dataclass(frozen=True)
class Shortcut:
    """A projection shortcut in place of an identity (He et al., CVPR 2016, equation 2).

    Attributes:
        block: path of the block that gets it.
        reader: the node with which the identity begins.
        channels: in and out.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    block: str
    reader: str
    channels: tuple[int, int]


@dataclass(frozen=True)
class Attention:
    """The numbers of a pooling with attention (semantics §3).

    Attributes:
        heads: attention heads.
        patch: side of a token's patch in pixels.
        embedding: channels of a token, a multiple of the heads.
        window: window normalisation, for kinds whose attention makes a weight.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    heads: int
    patch: int
    embedding: int
    window: bool = True


@dataclass(frozen=True)
class Pool:
    """A pooling, whose kernel and stride are its site's stride.

    Attributes:
        kind: a name of the catalogue of poolings.
        anchor: the node whose value is pooled.
        channels: of that map.
        readers: the nodes for which it is; none where it is for all.
        attention: its numbers where the kind has any.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: str
    anchor: str
    channels: int
    readers: tuple[str, ...] = ()
    attention: Attention | None = None


@dataclass(frozen=True)
class Site:
    """One place that can downsample, and what is done there.

    Attributes:
        name: `stem`, `prepool`, or `stage1`, `stage2`, ...
        stride: the site's downsampling factor; `was` is the backbone's own.
        channels: of the pooled map, or of the site's output where nothing is pooled.
        restride: what changes at the backbone's own downsampling, or None.
        shortcut: the block's new shortcut, or None.
        pool: what pools there, or None.
        map: (height, width) of the pooled map, or of the convolutions' input; measured at the plan's image size.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    stride: int
    was: int
    channels: int
    restride: Restride | None = None
    shortcut: Shortcut | None = None
    pool: Pool | None = None
    map: tuple[int, int] | None = None

    @property
    def action(self) -> Action:
        """What is done: `keep` what the backbone does, `stride` its convolutions otherwise, or `pool`."""
        if self.pool is not None:
            return "pool"
        return "keep" if self.restride is None else "stride"

    @property
    def kind(self) -> str:
        """The pooling that was asked for, as the catalogue has it; `skip` where the backbone's own strides stay."""
        if self.pool is not None:
            return self.pool.kind
        return (self.restride.filter if self.restride is not None else "") or "skip"

    @property
    def module(self) -> str:
        """The path under which what was put in for this site stands: its pool, or one filter or several."""
        return f"pools.{self.name}"

    def filter_at(self, node: str) -> str:
        """The path of the filter at one of the backbone's strided nodes, `pools.<site>.<node>`."""
        return f"{self.module}.{node}"

    def filter_node(self, node: str) -> str:
        """The name of that filter's node in the graph."""
        return self.filter_at(node).replace(".", "_")

    @property
    def node(self) -> str:
        """The name of the pool's node in the graph."""
        return self.module.replace(".", "_")

    @property
    def attention(self) -> Attention | None:
        """The numbers of the site's attention, where there is any."""
        return self.pool.attention if self.pool is not None else None

    @property
    def tokens(self) -> int | None:
        """How many tokens attend to each other, where there is attention and the map is measured."""
        if self.attention is None or self.map is None:
            return None
        return (self.map[0] // self.attention.patch) * (self.map[1] // self.attention.patch)
