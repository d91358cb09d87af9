"""A run's folder: its name, who may use it, and what processes tell each other of it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sapool.errors import RecipeError
from sapool.recipes.reading import AnyRecipe, flat, read_recipe
from sapool.runs.folder import RunFolder, is_main, recipe_of
from sapool.runs.progress import Progress

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "WORLD_SIZE", "SLURM_NTASKS")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*RANKS, "SAPOOL_RUN_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recipe() -> AnyRecipe:
    return read_recipe("digits")


def test_a_new_folder_has_the_recipes_name_and_nothing_is_made_before_it_begins(recipe, tmp_path):
    folder = RunFolder.choose(recipe)
    assert (folder.path.parent, folder.resumed) == (Path("runs"), False)
    assert folder.path.name.startswith("digits-")
    assert list(tmp_path.iterdir()) == []
    folder.begin(recipe)
    assert [path.name for path in folder.path.iterdir()] == ["recipe.toml"]
    assert flat(recipe_of(folder.path)) == flat(recipe)
    assert recipe_of(folder.path).title == folder.path.name


def test_runs_of_one_second_have_a_folder_each(recipe):
    chosen = []
    for _ in range(3):
        folder = RunFolder.choose(recipe)
        folder.begin(recipe)
        chosen.append(folder.path)
    assert len(set(chosen)) == 3


def test_a_folder_that_is_announced_is_that_of_child_processes_and_of_nobody_else(recipe, monkeypatch):
    folder = RunFolder.choose(recipe, "mine")
    with folder.announced():
        told = dict(os.environ)
        # Not of another run in this process, ...
        assert RunFolder.choose(recipe).path != folder.path.absolute()
    assert "SAPOOL_RUN_DIR" not in os.environ
    program = "from sapool.runs.folder import RunFolder; from sapool.recipes.reading import read_recipe; "
    program += "print(RunFolder.choose(read_recipe('digits')).path)"

    def child(**variables: str) -> str:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env={**told, **variables}, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert child(LOCAL_RANK="1", WORLD_SIZE="2") == str(folder.path.absolute())
    # ... nor of a process that is no part of the run.
    assert child() != str(folder.path.absolute())


def test_processes_that_were_started_from_outside_need_a_name(recipe, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="name it with --run-dir"):
        RunFolder.choose(recipe)
    assert RunFolder.choose(recipe, "named").path == Path("named")


def test_only_the_first_process_minds_what_is_in_a_new_folder(recipe, tmp_path, monkeypatch):
    RunFolder.choose(recipe, "run").begin(recipe)
    with pytest.raises(RecipeError, match="isn't empty"):
        RunFolder.choose(recipe, "run")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert RunFolder.choose(recipe, "run") == RunFolder(Path("run"))


@pytest.mark.parametrize(
    ("variables", "main"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_the_first_process_has_rank_0_everywhere(variables, main, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_main() == main


def test_a_run_is_resumed_under_its_own_recipe_only(recipe, tmp_path):
    RunFolder.choose(recipe, "run").begin(recipe)
    stale = tmp_path / "run" / ".last.ckpt.abc.ckpt"
    stale.write_bytes(b"half")
    folder = RunFolder.choose(read_recipe("digits", ["data.workers=2"]), "run", resume=True)
    assert folder == RunFolder(Path("run"), resumed=True)
    folder.begin(recipe)
    assert not stale.exists()
    with pytest.raises(RecipeError, match=r"optimizer\.lr is 0\.001 there and 0\.5 here"):
        RunFolder.choose(read_recipe("digits", ["optimizer.lr=0.5"]), "run", resume=True)
    # One that was killed before it wrote anything begins anew.
    assert RunFolder.choose(recipe, "nothing", resume=True) == RunFolder(Path("nothing"))


def test_folders_that_cannot_be_used(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="can't be used: Not a directory; choose another with --run-dir"):
        RunFolder.choose(recipe, "file/run").begin(recipe)
    with pytest.raises(RecipeError, match="can't be used: File exists"):
        RunFolder.choose(recipe, "file").begin(recipe)
    with pytest.raises(RecipeError, match="holds no run"):
        recipe_of(tmp_path)


def child(body: str) -> subprocess.Popen[str]:
    """A process that does something with a folder "run", prints a line, and waits for one."""
    program = f"""
import sys
from sapool.recipes.reading import read_recipe
from sapool.runs.folder import RunFolder
from sapool.runs.progress import Progress
recipe = read_recipe("digits")
{body}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


HOLDING = """
folder = RunFolder.choose(recipe, "run", resume=True)
with folder.held(Progress()):
    folder.begin(recipe)
    print("ready", flush=True)
    sys.stdin.readline()
"""
FORKING = """
import os, time
folder = RunFolder.choose(recipe, "run", resume=True)
with folder.held(Progress()):
    folder.begin(recipe)
    if os.fork() == 0:
        print("ready", flush=True)
        time.sleep(20)
        os._exit(0)
    sys.stdin.readline()
"""


def test_one_process_at_a_time(recipe, tmp_path):
    holder = child(HOLDING)
    # One that is being written isn't taken away, though it looks like what a kill leaves.
    writing = tmp_path / "run" / ".last.ckpt.12345678.ckpt"
    writing.write_bytes(b"half")
    folder = RunFolder.choose(recipe, "run", resume=True)
    with pytest.raises(RecipeError, match="another process is training in run"), folder.held(Progress()):
        pass
    assert writing.exists()
    holder.communicate("\n")
    with folder.held(Progress()):
        assert writing.exists()
        folder.begin(recipe)
        assert not writing.exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.toml"]


def test_two_beginnings_in_one_folder(recipe):
    first, second = RunFolder.choose(recipe, "run"), RunFolder.choose(recipe, "run")
    with first.held(Progress()), second.held(Progress()):
        first.begin(recipe)
        with pytest.raises(RecipeError, match=r"isn't empty|another process"):
            second.begin(recipe)


@pytest.mark.parametrize("body", [HOLDING, FORKING])
def test_a_killed_process_holds_nothing_whatever_it_forked(body, recipe):
    holder = child(body)
    holder.kill()
    holder.wait()
    with RunFolder.choose(recipe, "run", resume=True).held(Progress()):
        pass


@pytest.mark.parametrize(
    "left", [(), (".lock",), (".lock", ".probe"), (".lock", "base.py"), (".recipe.toml.abcdefgh.toml",)]
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_whose_run_was_killed_while_it_began(left, resume, recipe, tmp_path):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).touch()
    folder = RunFolder.choose(recipe, "run", resume=resume)
    with folder.held(Progress()):
        folder.begin(recipe)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"recipe.toml", "base.py"}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "base.py").touch()
    with pytest.raises(RecipeError, match="isn't empty"):
        RunFolder.choose(recipe, "own")


def test_only_what_training_writes_is_cleaned(recipe, tmp_path):
    RunFolder.choose(recipe, "run").begin(recipe)
    others = [".evaluation.json.abcdefgh.json", ".notes.txt.abcdefgh.txt", ".gitignore"]
    for name in (*others, ".last_checkpoint.abcdefgh", ".epoch_3.pth.abcdefgh.pth", ".model.pt.abcdefgh.pt"):
        (tmp_path / "run" / name).touch()
    RunFolder.choose(recipe, "run", resume=True).begin(recipe)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"recipe.toml", *others}


class Listener(Progress):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, text: str) -> None:
        self.heard.append(text)


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSYS, None), (errno.ENOLCK, None), (errno.EROFS, "Read-only")])
def test_disks_without_locks(number, said, recipe, monkeypatch):
    RunFolder.choose(recipe, "run").begin(recipe)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    listener, folder = Listener(), RunFolder.choose(recipe, "run", resume=True)
    if said:
        with pytest.raises(RecipeError, match=f"can't be used: {said}"), folder.held(listener):
            pass
        return
    with folder.held(listener):
        pass
    assert listener.heard == ["the disk of run has no locks: nothing keeps a second process from training there"]


@pytest.mark.parametrize("line", ['extends = "other.toml"', 'architecture = "other.json"'])
def test_a_runs_recipe_opens_no_other_file(line, tmp_path):
    (tmp_path / "recipe.toml").write_text(f'{line}\n[data]\nname = "digits"\n')
    with pytest.raises(RecipeError, match="can't take anything from another file"):
        recipe_of(tmp_path)
