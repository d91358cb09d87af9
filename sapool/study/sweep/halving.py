"""Successive halving (Jamieson and Talwalkar, AISTATS 2016), as Optuna has it: which runs of a search go on."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.pruners import BasePruner, SuccessiveHalvingPruner


def pruner_of(pruning: Mapping[str, int] | None) -> BasePruner | None:
    """The pruner of a search; None of a sweep, which trains everything to its end.

    Args:
        pruning: `first`, the epochs that each run gets, and `factor`, of how many one goes on to as many times more.
    """
    if pruning is None:
        return None
    return SuccessiveHalvingPruner(min_resource=pruning["first"], reduction_factor=pruning["factor"])
