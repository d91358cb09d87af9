"""One run of a study, in a process of its own: `python -m sapool.study.sweep.worker FOLDER RUN`.

It takes the run's lease, trains or goes on, and tells the storage. Its exit code is 0 where the run is over, 1 or 2
where it failed and that was kept, `BUSY` where another process has the lease, 128 + n where it was stopped by signal n.

Its standard input is a pipe that its parent holds open and never writes to: when the parent ends, however it does, the
run saves itself and ends too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from optuna.trial import Trial

from sapool.digests import read_json
from sapool.errors import InputError, WorkError, named
from sapool.runs.folder import RunFolder, is_main
from sapool.runs.process.signals import ending_at_once
from sapool.runs.progress import EpochTable, Progress
from sapool.study.sweep.folder import RunOfStudy, StudyFolder, open_study
from sapool.study.sweep.halving import Judged, pruner_of
from sapool.study.sweep.lease import BUSY
from sapool.study.sweep.records import Records
from sapool.study.sweep.scores import score_of

_SAVING = 60
"""Seconds that a run may take to save itself when its parent has ended."""
# What the run's other processes, where it has several, are told: whether it goes on with something.
_RESUMED = "SAPOOL_STUDY_RESUMED"


def main(arguments: list[str]) -> int:
    """Trains one run; returns the exit code."""
    study = open_study(arguments[0])
    run = study.run(arguments[1])
    if not is_main():  # a run's second process, which its engine started
        _train(study, run, Progress(), resume=os.environ.get(_RESUMED) == "1")
        return 0
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with ending_at_once():
        lease = study.lease(run.name)
        if not lease.take():
            return BUSY
        try:
            return _work(study, run)
        finally:
            lease.release()


def _work(study: StudyFolder, run: RunOfStudy) -> int:
    if study.over(run.name):
        return 0
    records = Records(study, pruner_of(study.pruning))
    trial = records.begin(run)
    if trial is None:
        study.settle(run.name, records.pruned().get(run.name))
        return 0
    try:
        stopped, pruned = (0, 0) if study.finished(run.name) else _trained(study, run, records, trial)
        if pruned:
            records.prune(trial)
        elif stopped:
            return stopped
        else:
            summary = read_json(study.folder(run.name) / "summary.json")
            records.complete(trial, score_of(summary), _told(summary))
        study.settle(run.name, pruned or None)
        return 0
    except (InputError, WorkError) as error:
        return _failed(study, run, records, trial, str(error), 2 if isinstance(error, InputError) else 1)
    except Exception as error:  # whatever engines raise; one run's isn't the others'
        traceback.print_exc()
        return _failed(study, run, records, trial, named(error), 1)


def _failed(study: StudyFolder, run: RunOfStudy, records: Records, trial: Trial, sentence: str, code: int) -> int:
    records.fail(trial, sentence)
    study.fail(run.name, sentence)
    return code


def _trained(study: StudyFolder, run: RunOfStudy, records: Records, trial: Trial) -> tuple[int, int]:
    """What `_train` returns, and after how many epochs a search stopped the run; 0 where it didn't."""
    os.environ[_RESUMED] = "1" if (study.folder(run.name) / "recipe.toml").is_file() else "0"
    if study.pruning is None:
        return _train(study, run, Progress(), resume=True), 0
    epochs = study.recipe(run.name).train.epochs or 0
    judged = Judged(records, trial, EpochTable(study.folder(run.name)), epochs)
    stopped = 0 if judged.pruned else _train(study, run, judged, resume=True)
    return stopped, judged.pruned


def _train(study: StudyFolder, run: RunOfStudy, progress: Progress, *, resume: bool) -> int:
    """Trains a run, or goes on; returns 0, or 128 + the signal that stopped it."""
    from sapool.tasks import task_of  # noqa: PLC0415 - torch, when the lease is had

    recipe = study.recipe(run.name)
    folder = RunFolder.choose(recipe, study.folder(run.name), resume=resume)
    fit = task_of(recipe).fit(recipe, folder, progress)
    return 0 if fit.stopped is None else 128 + fit.stopped


def _told(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if isinstance(value, (int, float, str, bool))}


def _end_with_parent() -> None:
    """Ends the run when its parent has ended: the pipe that it holds open is closed then."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SAVING)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
