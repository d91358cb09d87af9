"""A study's folder: what it is, its runs, what failed, and who trains what. No torch here.

    study.json      what was asked for: every run with its axes, its seed, its recipe's digest; what was refused
    recipes/NAME    each run's recipe, every setting resolved
    runs/NAME       the runs, ordinary ones
    failures/NAME   the sentence of a run that failed
    logs/NAME       what a run's process printed
    leases/NAME     a lock of the system's, had by the process that trains the run; .done when it is over
    journal.log     Optuna's storage, unless the study names another

Several machines share a study by sharing this folder.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sapool.digests import json_with_digest, read_json, with_digest
from sapool.errors import InputError, RecipeError, first_line
from sapool.recipes.reading import AnyRecipe, read_recipe, to_toml
from sapool.study.sweep.contents import checked_content
from sapool.study.sweep.lease import Lease
from sapool.study.sweep.points import Planned
from sapool.weights.atomic import write_text

FORMAT = "sapool-study-1"
STUDY, JOURNAL = "study.json", "journal.log"
WINNER = ("winner.plan.json", "winner.toml")
"""What a search ends with."""
_FOLDERS = ("recipes", "runs", "failures", "logs", "leases")
_OURS = frozenset((STUDY, JOURNAL, ".lock", *_FOLDERS, *WINNER))


@dataclass(frozen=True)
class RunOfStudy:
    """A run as its study's folder has it.

    Attributes:
        name: of its folder.
        axes, seed: a value of each; lists for sizes. What it is trained with.
        recipe: digest of its recipe; "" where it was refused.
        refused: why; "" where it wasn't.
        constraints: of a search, by the name of a limit, by how much its network's needs are above it.
    """

    name: str
    axes: dict[str, Any]
    seed: int
    recipe: str = ""
    refused: str = ""
    constraints: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFolder:
    """A study that was begun.

    Attributes:
        path, title: its folder, and its file's name.
        id: of this folder; the storage knows the study by it.
        storage: Optuna's, as it was given; "" for the journal in the folder.
        threads: cores a run computes on.
        runs: all that were asked for, in order.
        pruning: of a search, what is spent on its runs; None where each is trained to its end.
    """

    path: Path
    title: str
    id: str
    storage: str
    threads: int
    runs: tuple[RunOfStudy, ...]
    pruning: dict[str, int] | None = None

    @property
    def wanted(self) -> tuple[RunOfStudy, ...]:
        """The runs that aren't refused."""
        return tuple(run for run in self.runs if not run.refused)

    @property
    def digest(self) -> str:
        """Of what is asked for: two studies with the same one train the same runs."""
        return digest_of(self.runs, self.pruning)

    def run(self, name: str) -> RunOfStudy:
        """The run of that name; KeyError where there is none."""
        return {run.name: run for run in self.runs}[name]

    def folder(self, name: str) -> Path:
        """Where a run is kept."""
        return self.path / "runs" / name

    def log(self, name: str) -> Path:
        """Where goes what its process prints."""
        return self.path / "logs" / f"{name}.log"

    def recipe(self, name: str) -> AnyRecipe:
        """A run's recipe.

        Raises:
            InputError: it was changed, or isn't the one that the study asked for.
        """
        file = self.path / "recipes" / f"{name}.toml"
        recipe = read_recipe(str(file), of_run=True)
        if hashlib.sha256(to_toml(recipe).encode()).hexdigest() != self.run(name).recipe:
            raise RecipeError(f"{file} isn't the recipe that its study asked for; begin the study in another folder")
        return recipe

    def failure(self, name: str) -> str:
        """The sentence of a run that failed; "" where it didn't."""
        try:
            return str(read_json(self._failure(name))["sentence"])
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"it failed, and {self._failure(name)} can't be read: {error}"

    def fail(self, name: str, sentence: str) -> None:
        """Keeps why a run failed."""
        write_text(self._failure(name), json_with_digest({"run": name, "sentence": sentence}))

    def forget_failures(self) -> None:
        """Failed runs are to be tried again."""
        for name in [run.name for run in self.wanted]:
            self._failure(name).unlink(missing_ok=True)

    def finished(self, name: str) -> bool:
        """Whether a run is trained to its end."""
        return (self.folder(name) / "summary.json").is_file()

    def over(self, name: str) -> bool:
        """Whether nothing is left to do of a run."""
        return self._done(name).is_file() or self._failure(name).is_file()

    def settle(self, name: str, pruned: int | None = None) -> None:
        """Says that a run is over, and that the storage knows; of a run that a search stopped, after which epoch."""
        write_text(self._done(name), "" if pruned is None else str(pruned))

    def pruned(self, name: str) -> int | None:
        """After how many epochs a search stopped a run; None where it didn't."""
        try:
            text = self._done(name).read_text(encoding="utf-8", errors="replace")[:9]
        except OSError:
            return None
        return int(text) if text.isdecimal() else None

    def lease(self, name: str) -> Lease:
        """The right to train a run."""
        return Lease(self.path / "leases" / f"{name}.lock")

    def _done(self, name: str) -> Path:
        return self.path / "leases" / f"{name}.done"

    def _failure(self, name: str) -> Path:
        return self.path / "failures" / f"{name}.json"


def begin(
    path: Path, title: str, storage: str, threads: int, runs: Sequence[Planned], pruning: dict[str, int] | None = None
) -> StudyFolder:
    """Makes a study's folder, or finds the same study there, which goes on.

    Args:
        path, title, storage, threads, pruning: as the study has them.
        runs: all that it asks for, checked.

    Raises:
        RecipeError: another study is there, or something else, or it can't be written to. Nothing was written then.
    """
    texts = {run.name: to_toml(run.recipe) for run in runs if run.recipe is not None}
    rows = tuple(
        RunOfStudy(
            run.name,
            {name: list(value) if isinstance(value, tuple) else value for name, value in run.axes.items()},
            run.seed,
            hashlib.sha256(texts[run.name].encode()).hexdigest() if run.name in texts else "",
            run.refused,
            dict(run.constraints),
        )
        for run in runs
    )
    check_free(path)
    if (path / STUDY).is_file():
        return _same(open_study(path), rows, storage, pruning)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if (path / STUDY).is_file():  # somebody was quicker
                return _same(open_study(path), rows, storage, pruning)
            for name in _FOLDERS:
                (path / name).mkdir(exist_ok=True)
            for name, text in texts.items():
                write_text(path / "recipes" / f"{name}.toml", with_digest(text))
            study = StudyFolder(path, title, uuid.uuid4().hex, storage, threads, rows, pruning)
            content = asdict(study) | {"format": FORMAT, "runs": [asdict(row) for row in rows]}
            del content["path"]
            write_text(path / STUDY, json_with_digest(content))
    except OSError as error:
        raise RecipeError(f"the study's folder {path} can't be used: {error.strerror}; choose another") from None
    return study


def check_free(path: Path) -> None:
    """Passes where a study is in the folder, or could be.

    Raises:
        RecipeError: something else is there.
    """
    try:
        strange = [file.name for file in path.iterdir() if not file.name.startswith(".")] if path.exists() else []
    except OSError as error:
        raise RecipeError(f"the study's folder {path} can't be used: {error.strerror}; choose another") from None
    if not (path / STUDY).is_file() and not set(strange) <= _OURS:
        raise RecipeError(f"the folder {path} isn't empty and holds no study; choose another with --folder")


def is_study(path: str | Path) -> bool:
    """Whether a folder holds a study."""
    return (Path(path) / STUDY).is_file()


def open_study(path: str | Path) -> StudyFolder:
    """The study in a folder.

    Raises:
        RecipeError: there is none, or it is damaged.
    """
    file = Path(path) / STUDY
    try:
        content = read_json(file)
        if content["format"] != FORMAT:
            raise RecipeError(f"{file} is of another version of sapool")
        content = checked_content(content)
        runs = tuple(RunOfStudy(**row) for row in content.pop("runs"))
        del content["format"]
        return StudyFolder(Path(path), runs=runs, **content)
    except FileNotFoundError:
        raise RecipeError(f"{path} holds no study: there is no {STUDY} in it") from None
    except OSError as error:
        raise RecipeError(f"the study {path} can't be read: {error.strerror}") from None
    except InputError:
        raise
    except (KeyError, TypeError):
        raise RecipeError(f"{file} is damaged; take it from where it is whole") from None
    except ValueError as error:
        raise RecipeError(f"{file} is damaged: {first_line(error)}; take it from where it is whole") from None


def digest_of(runs: Sequence[RunOfStudy], pruning: dict[str, int] | None) -> str:
    """Of what is asked for: names, axes, seeds, recipes, what was refused, constraints, how training is spent."""
    rows = [
        [run.name, run.axes, run.seed, run.recipe, bool(run.refused), *([run.constraints] if run.constraints else ())]
        for run in runs
    ]
    return hashlib.sha256(json.dumps([rows, pruning], sort_keys=True).encode()).hexdigest()


def _same(
    study: StudyFolder, rows: tuple[RunOfStudy, ...], storage: str, pruning: dict[str, int] | None
) -> StudyFolder:
    """Passes where that study is this one."""
    if study.digest != digest_of(rows, pruning):
        theirs, ours = ({run.name: run for run in some} for some in (study.runs, rows))
        odd = next((name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)), "")
        what = (
            "its search is spent otherwise" if not odd
            else f"only {'there' if odd in theirs else 'here'} is a run {odd}" if (odd in theirs) != (odd in ours)
            else f"the run {odd} has another recipe there"
        )  # fmt: skip
        raise RecipeError(
            f"{study.path} holds another study: {what}; go on with that one's own file, or choose another folder with "
            "--folder"
        )
    if storage != study.storage:
        known = study.storage or f"the journal in {study.path}"
        raise RecipeError(f"{study.path} keeps its trials in {known}, not in {storage or 'a journal of its own'}")
    return study


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = FileLock(path / ".lock", timeout=60, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise RecipeError(f"another process is beginning the study in {path}; try again") from None
    try:
        yield
    finally:
        with suppress(OSError):
            lock.release()
