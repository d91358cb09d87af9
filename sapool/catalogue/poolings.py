"""The catalogue of poolings: what the grammar, the plan and the listings know of them. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeVar

from sapool.catalogue.registry import Registry

Attention = Literal["", "weight", "output"]
C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class PoolingType:
    """One pooling of the language.

    Attributes:
        name: as it is spelled in an architecture string.
        summary: one line for listings.
        use: when it is the one to take.
        target: `module:class` of the pooling, or "" for `skip`, which pools nothing.
        options: keyword arguments for the class, beside its map's numbers.
        attention: "weight" where attention over the map makes the weight of an average (such kinds take modifiers),
            "output" where it makes the output itself, "" where there is none.
        keeps_strides: whether the backbone's own strided operations stay where they are: nothing pools the stage's map,
            and the class, where there is one, filters at each of these operations.
        source: who published it, where and when.
        rank: where it stands in listings.
    """

    name: str
    summary: str
    use: str = ""
    target: str = ""
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    attention: Attention = ""
    keeps_strides: bool = False
    source: str = ""
    rank: int = 100

    @property
    def filters(self) -> bool:
        """Whether this kind filters at the backbone's own strided operations."""
        return self.keeps_strides and bool(self.target)

    @property
    def takes_modifiers(self) -> bool:
        """Whether `headfix`, `nowin` and `reduced` mean something for this kind."""
        return self.attention == "weight"


POOLINGS: Registry[PoolingType] = Registry(
    "pooling",
    decorator="register_pooling",
    entry=PoolingType,
    group="sapool.poolings",
    modules=("sapool.poolings", "sapool.poolings.rivals"),
    given=(
        PoolingType(
            "skip",
            "no pooling: the backbone's own strided convolution",
            use="the baseline of every comparison, and the least memory and arithmetic of all",
            keeps_strides=True,
            rank=0,
        ),
    ),
)
"""Every pooling by its name, in the order of listings."""


def register_pooling(
    name: str,
    *,
    summary: str,
    use: str = "",
    attention: Attention = "",
    options: Mapping[str, object] = MappingProxyType({}),
    keeps_strides: bool = False,
    source: str = "",
    rank: int = 100,
) -> Callable[[C], C]:
    """Declares a pooling: decorates a class derived from `sapool.Pooling`.

    The class is built with `(channels, stride, **options)`. With `attention` it also gets `heads` and `embedding`, and
    with "weight" `patch`, `window` and `conv` too, as `sapool.poolings.self_attentive.SelfAttentivePool` takes them.

    Args:
        name: how it is spelled in architecture strings.
        summary: one line for listings.
        use: when it is the one to take, for the documentation.
        attention: whether attention makes the weight of an average or the output; "" for neither.
        options: further keyword arguments for the class.
        keeps_strides: whether it filters at each of the backbone's own strided operations, which are then carried out
            at stride 1, and pools no map of a stage. Such a class makes ⌈H/s⌉ × ⌈W/s⌉ of H × W, as a subsampling does.
        source: who published it, where and when.
        rank: where it stands in listings; from 100 on behind the published ones.

    Raises:
        ValueError: the name is taken, or can't be one.
    """
    return POOLINGS.register(
        name,
        summary=summary,
        use=use,
        attention=attention,
        options=options,
        keeps_strides=keeps_strides,
        source=source,
        rank=rank,
    )


MODIFIERS: Mapping[str, str] = MappingProxyType(
    {
        "headfix<N>": "N attention heads at every site",
        "nowin": "no window normalisation: avg(x*w) in place of avg(x*w)/avg(w)",
        "reduced": "larger patches: 4,2,1,1 or 4,4,4,2,2,1,1; for a prepool its stride, and a quarter of the channels",
        "reduced<digits>": "one patch size per stage",
    }
)
"""Modifiers of the self-attentive family, in canonical order."""

REDUCED_PATCHES: Mapping[int, tuple[int, ...]] = MappingProxyType({4: (4, 2, 1, 1), 7: (4, 4, 4, 2, 2, 1, 1)})
"""The patches of `reduced` without digits, by the number of stages (semantics §1)."""
