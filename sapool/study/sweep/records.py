"""What Optuna's storage knows of a study: a trial a run, with its axes, what it reached, and what its network costs.

The storage is for those who look at a study with Optuna's tools, and for its pruners. Which process trains a run is
decided by a lock in the study's folder; see `sapool.study.sweep.folder`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from sapool.errors import RecipeError, brief, first_line, named
from sapool.study.sweep.folder import JOURNAL, RunOfStudy, StudyFolder, is_study, open_study

_ID, _DIGEST = "sapool folder", "sapool study"
SEED = "seed"
GRACE = 30
"""Seconds after which a journal's lock is taken from a process that died with it."""


@contextmanager
def quiet() -> Iterator[None]:
    """Meanwhile Optuna says nothing about itself."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield


def check_storage(storage: str, title: str, folder: Path) -> None:
    """Passes where a storage can be reached and has no study of that name that is another's; writes no trial.

    Args:
        storage: as the study gives it; "" for the journal in the folder, which is the study's own.
        title: the study's name.
        folder: the study's.

    Raises:
        RecipeError: it can't, or has.
    """
    if not storage:
        return
    with quiet(), _readable(storage):
        opened = _opened(storage)
        names = optuna.get_all_study_names(opened)
        if title in names:
            known = optuna.load_study(study_name=title, storage=opened).user_attrs.get(_ID)
            ours = open_study(folder).id if is_study(folder) else None
            if known is None or known != ours:
                raise _of_another(storage, title)


def _of_another(storage: str, title: str) -> RecipeError:
    return RecipeError(
        f"the storage {_public(storage)} has a study {title} that is kept in another folder; use that folder "
        "(--folder), call this study's file otherwise, or name another storage"
    )


class Records:
    """A study in its storage.

    Args:
        study: it.
        pruner: Optuna's, of a search.

    Raises:
        RecipeError: the storage can't be reached, or has another study of that name.
    """

    def __init__(self, study: StudyFolder, pruner: optuna.pruners.BasePruner | None = None) -> None:
        self.study, self.searching = study, pruner is not None
        self.pruner = pruner or optuna.pruners.NopPruner()
        self.storage = _opened(study.storage or str(study.path / JOURNAL))
        with quiet(), _readable(study.storage or str(study.path / JOURNAL)):
            self._study = optuna.create_study(
                study_name=study.title, storage=self.storage, direction="maximize", load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0), pruner=self.pruner,
            )  # fmt: skip
            known = self._study.user_attrs
            if _ID not in known and not self._study.get_trials(deepcopy=False):
                self._study.set_user_attr(_DIGEST, study.digest)
                self._study.set_user_attr(_ID, study.id)
                known = self._study.user_attrs
            if (known.get(_ID), known.get(_DIGEST)) != (study.id, study.digest):
                raise _of_another(study.storage or str(study.path / JOURNAL), study.title)
        self._space = _space(study)

    def begin(self, run: RunOfStudy) -> Trial | None:
        """A trial of a run, or None where one was told its end. Nobody else may be training the run.

        Trials that processes left behind which ended without a word are told to have failed; of a search, which
        compares what was told of them, they go on.
        """
        wanted = _parameters(run)
        with quiet():
            for trial in self._study.get_trials(deepcopy=False):
                if any(trial.params.get(name) != value for name, value in wanted.items()):
                    continue
                if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                    return None
                if trial.state == TrialState.RUNNING and self.searching:
                    return self._named(Trial(self._study, trial._trial_id), run)
                if trial.state == TrialState.RUNNING:
                    self._study.tell(trial.number, state=TrialState.FAIL)
            fixed = optuna.samplers.PartialFixedSampler(wanted, optuna.samplers.RandomSampler(seed=0))
            asking = optuna.load_study(
                study_name=self.study.title, storage=self.storage, sampler=fixed, pruner=self.pruner
            )
            return self._named(asking.ask(self._space), run)

    def _named(self, trial: Trial, run: RunOfStudy) -> Trial:
        """The same, which knows its run and what that needs beyond what is allowed."""
        trial.set_user_attr("run", run.name)
        for name in run.constraints.keys() - self._frozen(trial).constraints:
            trial.set_constraint(name, run.constraints[name])
        return trial

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return next(one for one in self._study.get_trials(deepcopy=False) if one.number == trial.number)

    def told(self, trial: Trial) -> list[int]:
        """The epochs that were told of a run, in order."""
        return sorted(self._frozen(trial).intermediate_values)

    def stops(self, trial: Trial) -> bool:
        """Whether the last epoch that was told of a run is its last, as the pruner says when it is told them anew.

        The pruner remembers that it judged a trial, and not how. So a copy of the study is asked.
        """
        with quiet():
            copy = optuna.create_study(direction="maximize", pruner=self.pruner)
            copy.add_trials(one for one in self._study.get_trials(deepcopy=False) if one.number != trial.number)
            again, stops = copy.ask(), False
            for epoch in self.told(trial):
                again.report(self._frozen(trial).intermediate_values[epoch], epoch)
                stops = again.should_prune()
            return stops

    def complete(self, trial: Trial, reached: float, summary: Mapping[str, Any]) -> None:
        """A run was trained to its end."""
        with quiet():
            for name, value in summary.items():
                trial.set_user_attr(name, value)
            self._study.tell(trial, reached)

    def prune(self, trial: Trial) -> None:
        """A run was stopped, for others promise more."""
        with quiet():
            self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, sentence: str) -> None:
        """A run failed."""
        with quiet():
            trial.set_user_attr("failed", sentence)
            self._study.tell(trial, state=TrialState.FAIL)

    def pruned(self) -> dict[str, int]:
        """The runs that were stopped, with the last epoch that was told of each."""
        return {
            str(trial.user_attrs.get("run")): max(trial.intermediate_values, default=0)
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state == TrialState.PRUNED
        }


@contextmanager
def _readable(storage: str) -> Iterator[None]:
    """Meanwhile a storage that holds what Optuna didn't write is refused in a sentence."""
    try:
        yield
    except (RecipeError, OSError):
        raise
    except Exception as error:
        raise RecipeError(f"the storage {_public(storage)} can't be used: {named(error)}") from None


def _opened(storage: str) -> BaseStorage:
    """A database by its address, or a journal file.

    Raises:
        RecipeError: it can't be reached.
    """
    if "://" not in storage:
        path = Path(storage)
        try:
            odd = path.exists() and not path.is_file()
        except (OSError, ValueError):  # no file can have such a name
            odd = True
        if odd:
            raise RecipeError(
                f"the storage {brief(storage)} is no file; expected a journal file, or a database's address"
            )
        if not path.parent.is_dir():
            raise RecipeError(f"the storage {storage} can't be reached: there is no folder {path.parent}")
        # A file as the lock: a link, Optuna's default, leads elsewhere where a folder is named or mounted otherwise,
        # and one that leads nowhere is waited for without end.
        lock = Path(f"{storage}.lock")
        if lock.is_symlink() or lock.is_dir():
            raise RecipeError(f"{lock} is no lock of this version; remove it if nothing else works on the study")
        try:
            return JournalStorage(JournalFileBackend(storage, JournalFileOpenLock(storage, grace_period=GRACE)))
        except Exception as error:  # whatever lines that nobody wrote make the reader stumble over
            raise RecipeError(f"the storage {storage} can't be read as Optuna's journal: {first_line(error)}") from None
    try:
        return optuna.storages.get_storage(storage)
    except Exception as error:  # whatever drivers raise
        raise RecipeError(f"the storage {_public(storage)} can't be reached: {first_line(error)}") from None


def _public(storage: str) -> str:
    """An address without its password."""
    start, at, rest = storage.rpartition("@")
    return f"{start.partition('://')[0]}://...@{rest}" if at else storage


def _parameters(run: RunOfStudy) -> dict[str, Any]:
    axes = {name: json.dumps(value) if isinstance(value, list) else value for name, value in run.axes.items()}
    return {**axes, SEED: run.seed}


def _space(study: StudyFolder) -> dict[str, BaseDistribution]:
    values: dict[str, dict[str, Any]] = {}
    for run in study.runs:
        for name, value in _parameters(run).items():
            values.setdefault(name, {})[repr(value)] = value
    return {name: CategoricalDistribution(list(some.values())) for name, some in values.items()}
