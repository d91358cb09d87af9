"""Successive halving (Jamieson and Talwalkar, AISTATS 2016), as Optuna has it: which runs of a search go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import Trial

from sapool.runs.progress import EpochTable, Pace, Progress
from sapool.study.sweep.records import Records
from sapool.study.sweep.scores import score_in


def pruner_of(pruning: Mapping[str, int] | None) -> BasePruner | None:
    """The pruner of a search; None of a sweep, which trains everything to its end.

    Args:
        pruning: `first`, the epochs that each run gets, and `factor`, of how many one goes on to as many times more.
    """
    if pruning is None:
        return None
    return SuccessiveHalvingPruner(min_resource=pruning["first"], reduction_factor=pruning["factor"])


class Judged(Progress):
    """Tells the storage each epoch's score, and stops the run where the pruner says that others promise more.

    Args:
        records: the storage.
        trial: the run's; one that goes on may have been told epochs before.
        table: the run's, which has its epochs over all its starts.
        total: epochs of a run that is trained to its end.

    Attributes:
        pruned: after how many epochs the run was stopped; 0 where it wasn't.
    """

    def __init__(self, records: Records, trial: Trial, table: EpochTable, total: int) -> None:
        self.trial, self.table, self.pruned = trial, table, 0
        self._told = records.told(trial)
        # A process that was killed may not have lived to tell an epoch, or to hear what was said of it.
        if not self._tell(total) and not self.pruned and self._told and self._told[-1] < total:
            self.pruned = self._told[-1] if records.stops(trial) else 0

    def epoch(self, number: int, total: int, metrics: Mapping[str, float], pace: Pace | None = None) -> None:
        if self._tell(total) and self.pruned:
            os.kill(os.getpid(), signal.SIGTERM)  # heeded by the engine, which saves

    def _tell(self, total: int) -> bool:
        """Each epoch's score, once; whether there was something to tell."""
        rows = [(int(row["epoch"]), score_in(row)) for row in self.table.rows()]
        new = [(epoch, score) for epoch, score in rows if score is not None and epoch not in self._told]
        for epoch, score in new:
            self.trial.report(score, epoch)
            self._told.append(epoch)
            if not self.pruned and epoch < total and self.trial.should_prune():
                self.pruned = epoch
        return bool(new)
