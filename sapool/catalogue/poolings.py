"""The catalogue of poolings: data that the grammar, the plan and the listings share. No torch here.

A kind names the class that computes it (`module:Class`, imported when a model is built) and the options that class is
built with. `sapool.poolings.build` is the only reader of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Kind:
    """One pooling of the language.

    Attributes:
        name: as it is spelled in an architecture string.
        summary: one line for listings.
        target: `module:Class` of the pooling, or "" for `skip`, which pools nothing.
        options: the ablation's or variant's keyword arguments for the class.
        attention: "weight" for the self-attentive family (which takes modifiers), "output" where attention makes the
            output itself, "" where there is none.
        constant_on_patches: whether its attention's weight is the same for all pixels of a token's patch.
        local: whether that weight is multiplied by a local one.
    """

    name: str
    summary: str
    target: str = ""
    options: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    attention: str = ""
    constant_on_patches: bool = False
    local: bool = False

    @property
    def takes_modifiers(self) -> bool:
        """Whether `headfix`, `nowin` and `reduced` mean something for this kind."""
        return self.attention == "weight"


def _self_attentive(name: str, summary: str, target: str = "self_attentive:SelfAttentivePool", **options: bool) -> Kind:
    return Kind(
        name,
        summary,
        f"sapool.poolings.{target}",
        MappingProxyType(options),
        attention="weight",
        constant_on_patches="Deformable" not in target,
        local=target.startswith("mixed:"),
    )


_ALL = (
    Kind("skip", "no pooling: the backbone's own strided convolution"),
    Kind("maxp", "max pooling", "sapool.poolings.window:MaxPool"),
    Kind("avgp", "average pooling", "sapool.poolings.window:AvgPool"),
    Kind("lip", "local importance pooling, weights from a 1x1 convolution", "sapool.poolings.lip:LocalImportancePool"),
    Kind("gaussian_pool", "window mean plus gated deviation", "sapool.poolings.gaussian:GaussianPool"),
    Kind(
        "attnpool",
        "attention, then a strided convolution (baseline)",
        "sapool.poolings.attention_pool:AttentionPool",
        attention="output",
    ),
    _self_attentive("nlp", "self-attentive (non-local) pooling, the paper's"),
    _self_attentive("dfmnlp", "nlp on deformably sampled patches", "deformable:DeformablePool"),
    _self_attentive("mixp", "nlp times a local weight", "mixed:MixedPool"),
    _self_attentive("dfmixp", "dfmnlp times a local weight", "mixed:DeformableMixedPool"),
    _self_attentive("nlpnoexp", "nlp without the exponential", exp=False),
    _self_attentive("nlpnosigmoid", "nlp without the sigmoid", sigmoid=False),
    _self_attentive("nlpnope", "nlp without learned positions", position=False),
    _self_attentive("nlpnobn1", "nlp whose embedding has no batch norm", embed_norm=False),
    _self_attentive("nlpnobn2", "nlp whose restoring has no batch norm", restore_norm=False),
)

KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL})
"""Every kind by its name, in the order of listings."""

MODIFIERS: Mapping[str, str] = MappingProxyType(
    {
        "headfix<N>": "N attention heads at every site",
        "nowin": "no window normalisation: avg(x*w) in place of avg(x*w)/avg(w)",
        "reduced": "larger patches: 4,2,1,1 or 4,4,4,2,2,1,1; for a prepool its stride, and a quarter of the channels",
        "reduced<digits>": "one patch size per stage",
    }
)
"""Modifiers of the self-attentive family, in canonical order."""
