"""What is compared with what: the tables of `python -m benchmarks`."""

from __future__ import annotations

from dataclasses import dataclass

from sapool.catalogue.poolings import POOLINGS


@dataclass(frozen=True)
class Case:
    """One comparison: `ours` against `baseline`, in the mode `forward` or `step`.

    Attributes:
        most: what the ratio of times is to be at most, and that of memory, where that was set.
    """

    architecture: str
    size: int
    mode: str
    baseline: str = "literal"
    ours: str = "compiled"
    most: tuple[float | None, float | None] = (None, None)

    def __str__(self) -> str:
        ours = {"optimized": "-O ", "packed": "-O, packed, "}.get(self.ours, "")
        return f"{ours}`{self.architecture}` {self.size}x{self.size}, {self.mode}, against {self.baseline}"


_SMALL = "resnet18-nlp_headfix2_nowin_reduced-1222"

_README = (
    Case("prepool-nlp-4-resnet18-nlp-1222", 128, "forward"),
    Case("prepool-nlp-4-resnet18-nlp-1222", 128, "step"),
    Case("mobilenet_v2-nlp_headfix2-1222121", 128, "forward"),
    Case("mobilenet_v2-nlp_headfix2-1222121", 128, "step"),
    Case("resnet18-nlp-1222", 224, "forward"),
    Case("resnet18-skip-1222", 224, "forward", "torchvision"),
    Case("resnet18-skip-1222", 224, "step", "torchvision"),
    Case("resnet18-nlp_headfix2_nowin_reduced0842-1222", 224, "forward", "resnet18-avgp-1222"),
    Case("resnet18-skip-1222", 224, "forward", "compiled", "optimized"),
    Case("resnet18-nlp_reduced-1222", 224, "forward", "compiled", "optimized"),
)

_FORMER = (
    Case("dyresnet18-skip-1222", 128, "forward", "former", most=(0.50, None)),
    Case("dyresnet18-skip-1222", 128, "step", "former", most=(0.60, None)),
    Case("dymobilenet-skip-1222121", 128, "forward", "former", most=(0.80, None)),
    Case("dymobilenet-skip-1222121", 128, "step", "former"),
    Case("resnet18-lip-1222", 128, "step", "resnet18-avgp-1222"),
    Case("resnet18-dfmnlp_reduced-1222", 128, "forward", "resnet18-avgp-1222"),
    Case("resnet18-nlp-1222", 128, "step", "resnet18-avgp-1222"),
    Case(_SMALL, 128, "forward", "resnet18-avgp-1222", most=(1.12, None)),
    Case(_SMALL, 128, "step", "resnet18-avgp-1222", most=(1.15, None)),
)

_INFERENCE = tuple(
    Case(text.format(kind), 128, "forward", "compiled", "packed", most=(1.00, None))
    for text in ("resnet18-{}-1222", "mobilenet-{}-1222121")
    for kind in POOLINGS
)

_PUBLISHED = tuple(
    Case(text, size, mode, "published", "paper")
    for text, size, modes in (
        ("resnet18-nlp-1222", 128, ("forward", "step")),
        ("resnet18-nlp-1222", 224, ("forward",)),
        ("mobilenet_v2-nlp_headfix2-1222121", 128, ("forward", "step")),
        ("prepool-nlp-4-resnet18-nlp-1222", 128, ("forward", "step")),
        ("dyresnet18-skip-1222", 128, ("forward", "step")),
        ("resnet18-dfmnlp_reduced-1222", 128, ("forward", "step")),
        ("resnet18-lip-1222", 128, ("forward", "step")),
    )
    for mode in modes
)

TABLES: dict[str, tuple[Case, ...]] = {
    "readme": _README,
    "former": _FORMER,
    "inference": _INFERENCE,
    "published": _PUBLISHED,
}
"""The README's, that of formulations which ours took the place of, `-O` against not for every kind of pool, and ours in
the published dialect against a checkout of the authors' code."""
