"""A sweep: from a study's file to its folder, and the training of what is left of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sapool.errors import RecipeError, require_extra
from sapool.recipes.reading import AnyRecipe, Recipe
from sapool.runs.machine import check_machine
from sapool.runs.results import Table
from sapool.study.sweep.definition import Definition, read_study
from sapool.study.sweep.folder import StudyFolder, begin, check_free, is_study, open_study
from sapool.study.sweep.points import Planned, planned_runs, shown
from sapool.study.sweep.supervisor import Standing, Supervisor, Watch

_SHOWN = 20


@dataclass(frozen=True)
class Prepared:
    """A study whose runs were checked; nothing is written yet.

    Attributes:
        definition: its file.
        runs: all that it asks for; some are refused.
        path: its folder.
        jobs: processes at a time on this machine.
        pruning: of a search, what is spent on its runs; None where each is trained to its end.
    """

    definition: Definition
    runs: tuple[Planned, ...]
    path: Path
    jobs: int
    pruning: dict[str, int] | None = None

    @property
    def refused(self) -> tuple[Planned, ...]:
        """The runs that aren't trained."""
        return tuple(run for run in self.runs if run.refused)

    def report(self) -> tuple[Table | str, ...]:
        """What is refused, and why: a row for each combination of axes."""
        values = {name: {repr(run.axes[name]) for run in self.runs} for name in self.runs[0].axes}
        axes = [name for name, some in values.items() if len(some) > 1] or list(values)
        reasons: dict[tuple[str, ...], str] = {}
        for run in self.refused:
            reasons.setdefault(tuple(shown(run.axes[name]) for name in axes), run.refused)
        if not reasons:
            return ()
        rows = [(*cells, reason) for cells, reason in reasons.items()]
        columns = (*(name.rpartition(".")[2] for name in axes), "why it is refused")
        more = (f"and {len(rows) - _SHOWN:,} combinations more",) if len(rows) > _SHOWN else ()
        title = f"refused: {len(self.refused):,} of {len(self.runs):,} runs"
        return (Table(columns, tuple(rows[:_SHOWN]), title=title), *more)


def prepare(source: str, folder: str | Path | None = None, *, jobs: int = 1, dry: bool = False) -> Prepared:
    """Reads a study and checks all of its runs; writes nothing, but for the storage that the study names.

    Args:
        source: the study's file, or a shipped study's name.
        folder: where it is kept; None for `studies/NAME`.
        jobs: processes at a time.
        dry: the storage isn't opened, which would begin it, or connect to it.

    Raises:
        InputError: the study makes no sense, its folder or its storage is another's, its data isn't there.
    """
    definition = read_study(source)
    require_extra("study", "a study", ("optuna",))
    require_extra("train", "a study's runs", ("lightning", "filelock"))
    path = Path(folder) if folder is not None else Path("studies") / definition.title
    check_possible(path, jobs, definition.base)
    runs = planned_runs(definition)
    from sapool.study.sweep.checks import checked  # noqa: PLC0415 - torch, after what can be told without
    from sapool.study.sweep.records import check_storage  # noqa: PLC0415

    if not dry:
        check_storage(_storage(definition), definition.title, path)
    return Prepared(definition, tuple(checked(runs, definition.limits)), path, jobs)


def check_possible(path: Path, jobs: int, base: AnyRecipe) -> None:
    """Refuses a study that this folder or this machine is not for, before anything is measured.

    Raises:
        InputError: says what, and what to do.
    """
    if jobs < 1:
        raise RecipeError(f"--jobs: expected at least 1 process, not {jobs}")
    check_free(path)
    check_machine(base)


def sweep(prepared: Prepared, watch: Watch | None = None, *, retry: bool = False) -> tuple[StudyFolder, Standing]:
    """Trains what is left of a study, together with whoever else does.

    Args:
        prepared: from `prepare`.
        watch: is told how the runs stand.
        retry: try those again that failed before.

    Raises:
        RecipeError: all runs are refused; or the folder or the storage has another study.
    """
    if len(prepared.refused) == len(prepared.runs):
        raise RecipeError(f"{prepared.definition.title}: all {len(prepared.runs)} runs are refused; nothing is trained")
    threads = prepared.definition.study.threads or max(1, (os.cpu_count() or 1) // prepared.jobs)
    storage = _storage(prepared.definition)
    study = begin(prepared.path, prepared.definition.title, storage, threads, prepared.runs, prepared.pruning)
    from sapool.study.sweep.records import Records  # noqa: PLC0415 - Optuna, when it is known to be needed

    Records(study)
    if retry:
        study.forget_failures()
    return study, Supervisor(study, prepared.jobs, devices_for(prepared.definition), watch).work()


def devices_for(definition: Definition) -> tuple[str, ...]:
    """The GPUs that the runs share, by the names that CUDA has for them; none where they compute on cores."""
    if isinstance(definition.base, Recipe) and definition.base.train.accelerator not in ("auto", "gpu"):
        return ()
    import torch  # noqa: PLC0415

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return tuple(names) if torch.cuda.is_available() else ()


def _storage(definition: Definition) -> str:
    """Optuna's storage as workers find it, wherever they were started."""
    given = definition.study.storage
    if given is None:
        return ""
    return given if "://" in given else str(Path(given).expanduser().absolute())


__all__ = ["Prepared", "is_study", "open_study", "prepare", "sweep"]
