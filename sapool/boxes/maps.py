"""Which of a network's maps feed a detector."""

from __future__ import annotations

from collections.abc import Sequence

from sapool.errors import InputError
from sapool.passes.measure import Feature


def choose_outputs(
    features: Sequence[Feature],
    count: int,
    wanted: Sequence[int] | None,
    text: str,
    *,
    stages_only: bool = False,
    who: str = "the base's neck",
) -> tuple[int, ...]:
    """Indices of the maps that feed the neck: those wanted, or the deepest map of each of the `count` smallest sizes.

    Args:
        features: everything that the network could return.
        count: how many the neck takes.
        wanted: the recipe's choice, or None.
        text: the architecture, for messages.
        stages_only: choose among the stages' maps, and not that of a last convolution.
        who: takes them, for messages.

    Raises:
        InputError: an index that doesn't exist, too many or too few, or maps that don't shrink.
    """
    maps = ", ".join(f"{index}: {feature.name} 1/{feature.reduction}" for index, feature in enumerate(features))
    if wanted is None:
        deepest = {
            feature.reduction: index
            for index, feature in enumerate(features)
            if not stages_only or feature.name.startswith("stage")
        }
        chosen = tuple(deepest[reduction] for reduction in sorted(deepest)[-count:])
        if len(chosen) < count:
            raise InputError(
                f"detector.out_indices: {who} takes {count} maps, and {text} has maps of {len(deepest)} "
                f"different sizes only ({maps}); use an architecture that downsamples more often, or another base"
            )
        return chosen
    for index in wanted:
        if not 0 <= index < len(features):
            raise InputError(f"detector.out_indices: {text} has maps 0 to {len(features) - 1} ({maps}), not {index}")
    if len(wanted) != count:
        raise InputError(f"detector.out_indices: {who} takes {count} maps, not {len(wanted)}")
    if list(wanted) != sorted(set(wanted)):
        raise InputError(f"detector.out_indices: expected ascending numbers, not {list(wanted)}")
    return tuple(wanted)
