"""What the catalogue knows of a backbone: where to look, never what would be found there. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Pools = Literal["before", "first", "last"]

PLACES: Mapping[Pools, str] = MappingProxyType(
    {
        "before": "before the first block",
        "first": "after the first block",
        "last": "after the last block",
    }
)
"""Where a stage's pool can go, in words."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Backbone:
    """How to build a backbone, and the module paths of its stages.

    What comes before the first stage is the stem. Channels, strides and shapes are measured on the traced graph.

    Attributes:
        name: as it is spelled in an architecture string.
        target: `module:function` that builds it, given `num_classes` and `arguments`.
        stages: for each stage the blocks in order; `layer1.*` stands for all children of `layer1`. None where they are
            to be found in the graph.
        strides: the strides string that means "unchanged"; "" where only the graph tells.
        parameters: how many there are, with 1000 classes; 0 where nobody counted.
        pools: where a plain name's pools go; None where the graph tells.
        head: the module that ends in a last convolution whose output detectors also use, or None.
        arguments: for the builder.
        paper: what the published network has otherwise (semantics §2), by module path: constructor arguments of the
            replaced module, or None for a module that it doesn't have. None where nothing was published.
        paper_shortcuts: stages (1-based) that get a projection shortcut there when a `_v2` name pools them.
        rank: where it stands in listings.
    """

    name: str
    target: str
    stages: tuple[tuple[str, ...], ...] = ()
    strides: str = ""
    parameters: int = 0
    pools: Pools | None = None
    head: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    paper: Mapping[str, Mapping[str, int] | None] | None = None
    paper_shortcuts: tuple[int, ...] = ()
    rank: int = 100

    @property
    def builder(self) -> str:
        """The name of the function that builds it."""
        return self.target.partition(":")[2]

    @property
    def of_torchvision(self) -> bool:
        """Whether torchvision builds it, and publishes weights for it."""
        return self.target.startswith("torchvision.models:")
