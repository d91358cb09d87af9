"""The catalogue of backbones: data that says where to look, never what would be found there.

Channels, strides and shapes are measured on the traced graph (`sapool.survey`). The default strides are written down
only because listings and error messages need them without torch; a test measures them. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Backbone:
    """How to build a backbone, and the module paths of its parts.

    Attributes:
        name: as it is spelled in an architecture string.
        builder: the function of `torchvision.models` that builds it.
        stem_conv: the stem's strided convolution.
        stem_end: the stem's last activation; a prepool follows it.
        stem_pool: the stem's pooling, or None.
        stages: for each stage the blocks in order; `layer1.*` stands for all children of `layer1`.
        strides: the strides string that means "unchanged".
        pool_before: whether a plain name's pool comes before the stage's first block (else after its last).
        head: a last convolution whose output detectors also use, or None.
        paper: what the published network has otherwise (semantics §2), by module path: constructor arguments of the
            replaced module, or None for a module that it doesn't have.
        paper_shortcuts: stages (1-based) that get a projection shortcut there when a `_v2` name pools them.
    """

    name: str
    builder: str
    stem_conv: str
    stem_end: str
    stem_pool: str | None
    stages: tuple[tuple[str, ...], ...]
    strides: str
    pool_before: bool = False
    head: str | None = None
    paper: Mapping[str, Mapping[str, int] | None] = field(default_factory=lambda: MappingProxyType({}))
    paper_shortcuts: tuple[int, ...] = ()


def _resnet(name: str) -> Backbone:
    return Backbone(
        name=name,
        builder=name,
        stem_conv="conv1",
        stem_end="relu",
        stem_pool="maxpool",
        stages=(("layer1.*",), ("layer2.*",), ("layer3.*",), ("layer4.*",)),
        strides="1222",
        paper={"maxpool": {"kernel_size": 2, "stride": 2, "padding": 0}},
        paper_shortcuts=(1,),
    )


_MOBILENET_V2 = Backbone(
    name="mobilenet",
    builder="mobilenet_v2",
    stem_conv="features.0.0",
    stem_end="features.0.2",
    stem_pool=None,
    stages=(
        ("features.1",),
        ("features.2", "features.3"),
        ("features.4", "features.5", "features.6"),
        ("features.7", "features.8", "features.9", "features.10"),
        ("features.11", "features.12", "features.13"),
        ("features.14", "features.15", "features.16"),
        ("features.17",),
    ),
    strides="1222121",
    pool_before=True,
    head="features.18",
    paper={"classifier.0": None},
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {entry.name: entry for entry in (_resnet("resnet18"), _resnet("resnet50"), _MOBILENET_V2)}
)
"""Every backbone by its name, in the order of listings."""
