"""The catalogue of passes: the order in which ours rewrite a graph, and where those of other packages go. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from sapool.catalogue.registry import Registry
from sapool.errors import InputError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class PassEntry:
    """A pass.

    Attributes:
        name: what rewrites and refusals are filed under.
        summary: one line for listings.
        target: `module:function` of a pass from outside; "" for ours, which `sapool.passes` calls.
        after: the pass that it follows directly, for one from outside.
        rank: where it stands in listings.
    """

    name: str
    summary: str
    target: str = ""
    after: str = ""
    rank: int = 100


_OURS = (
    ("expose_features", "makes each feature map a second output, so that a pool behind it takes its place"),
    ("adapt_input", "gives the first convolution as many input channels as the images have"),
    ("adopt_dialect", "the published network where it isn't torchvision's"),
    ("insert_prepool", "a pool on the stem's map"),
    ("insert_pools", "pools of the stages"),
    ("restride", "strides of the backbone's own convolutions, and shortcuts that follow them"),
    ("filter_strides", "filters at strided operations, which are carried out at stride 1"),
    ("make_dynamic", "dynamic convolutions"),
    ("select_outputs", "logits, or the wanted feature maps"),
    ("clean_up", "what no output needs goes"),
    ("cancel_attention", "inference: attention that window normalisation cancels becomes average pooling"),
    ("fold_norms", "inference: batch norms become part of the convolutions before them"),
    ("fold_projections", "inference: pools' linear maps become part of the convolutions behind them"),
    ("mix_outputs", "microcontrollers: outputs of a dynamic convolution's kernels are mixed, not the kernels"),
    ("split_attention", "microcontrollers: attention head by head, in blocks of query rows"),
    ("square_deviations", "microcontrollers: gaussian pooling squares deviations, in an order that few bits can bear"),
    ("approximate_exponential", "microcontrollers: exp(sigmoid) as an affine map of a logistic, within 0.0012"),
    ("divide_by_logistics", "microcontrollers: soft pooling's exponential as what int8 has, a logistic and a division"),
    ("mirror", "microcontrollers: the image turned by 180 degrees, so that windows are padded behind the map"),
    ("fit_padding", "microcontrollers: kernels with zeros at their edges, so that padding is the runtime's own"),
)

PASSES: Registry[PassEntry] = Registry(
    "pass",
    decorator="register_pass",
    entry=PassEntry,
    group="sapool.passes",
    given=tuple(PassEntry(name, summary, rank=rank) for rank, (name, summary) in enumerate(_OURS)),
)
"""Every pass by its name; ours in the order in which they run."""


def register_pass(name: str, *, after: str, summary: str) -> Callable[[F], F]:
    """Declares a pass: decorates a function of (module, plan, log).

    It finds its places in the graph by what the plan says, rewrites them in place, and tells the log
    (`sapool.passes.record.Log`) what it rewrote, and what it left alone with the reason. The driver lints, recompiles,
    verifies and times.

    Args:
        name: what its rewrites and refusals are filed under.
        after: the pass of ours that it follows directly.
        summary: one line for listings.

    Raises:
        ValueError: the name is taken, or can't be one.
    """
    return PASSES.register(name, after=after, summary=summary)


def check_passes(names: Iterable[str]) -> None:
    """Passes where each name is one of `PASSES`.

    Raises:
        InputError: there is no such pass.
    """
    for name in names:
        if name not in PASSES:
            raise InputError(f"there is no pass '{name}'; there are {', '.join(PASSES)}.{did_you_mean(name, PASSES)}")
