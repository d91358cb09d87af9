"""Installation: the wheel holds every room inside the package and nothing beside it; a checkout works as it lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[1]

# Folders of the repository, and where an installation has them.
ROOMS = {"sapool": "sapool", "grammar": "sapool/grammar", "passes": "sapool/passes", "recipes": "sapool/recipes"}


def python(*words: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs this Python somewhere else, with or without a folder to import from."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves nothing in the repository."""
    copy = tmp_path_factory.mktemp("checkout") / "sapool"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "venv")

    def ignored(folder: str, names: list[str]) -> set[str]:
        # `runs` at the top holds what was trained; inside the package it is a room.
        return left_out(folder, names) | ({"runs"} if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    python("-m", "pip", *build, str(checkout), cwd=folder)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel, and nothing else, is installed."""
    folder = tmp_path_factory.mktemp("installed")
    python("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel), cwd=folder)
    return folder


def test_nothing_lies_beside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"sapool", "sapoolc.py"}
    assert len(top) == 3


def test_the_wheel_holds_every_file_of_the_rooms(wheel: Path, checkout: Path) -> None:
    expected = {
        f"{inside}/{path.relative_to(checkout / room).as_posix()}"
        for room, inside in ROOMS.items()
        for path in (checkout / room).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    built = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("sapool/")}
    assert built == expected
    assert {"sapool/py.typed", "sapool/grammar/architecture.lark", "sapool/recipes/digits.toml"} <= built


def test_the_wheel_has_its_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith("/licenses/LICENSE")] != []


def test_the_installed_package(installed: Path, tmp_path: Path) -> None:
    program = """
import sys
from importlib.resources import files
from pathlib import Path

import sapool, sapool.grammar, sapool.passes, sapool.recipes, sapoolc

home = Path(sys.argv[1]).resolve()
for module in (sapool, sapool.grammar, sapool.passes, sapool.recipes, sapoolc):
    assert Path(module.__file__).resolve().is_relative_to(home), module.__file__
assert list(sapool.__path__) == [str(home / "sapool")]
data = {"sapool": "py.typed", "sapool.grammar": "architecture.lark", "sapool.recipes": "digits.toml"}
for package, name in data.items():
    assert files(package).joinpath(name).is_file(), name
assert str(sapool.parse("ResNet18-NLP-1222")) == "resnet18-nlp-1222"
assert "architecture = " in sapool.recipes.text("digits")
raise SystemExit(sapoolc.main(["list", "recipes"]))
"""
    done = python("-c", program, str(installed), cwd=tmp_path, path=installed)
    assert done.stdout.splitlines()[0].split() == ["name", "what", "it", "trains"]
    assert "\ndigits  " in done.stdout


def test_the_installed_compiler(installed: Path, tmp_path: Path) -> None:
    words = ["compile", "prepool-nlp-4-dyresnet18-lip-1222", "--image-size", "64", "-o", "plan.json"]
    done = python(str(installed / "bin" / "sapoolc"), *words, cwd=tmp_path, path=installed)
    assert done.stdout.startswith("prepool-nlp-4-dyresnet18-lip-1222  (")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_checkout_works_as_it_lies(checkout: Path) -> None:
    done = python("sapoolc.py", "list", "recipes", cwd=checkout)
    assert "\ndigits  " in done.stdout
    program = """
import sys
from pathlib import Path
import sapool.grammar, sapool.passes.restride, sapool.recipes
for name in ("sapool", "sapool.grammar", "sapool.passes.restride", "sapool.recipes"):
    print(Path(sys.modules[name].__file__).relative_to(Path.cwd()).as_posix())
for name in ("sapool.sapool", "sapool.tests", "sapool.docs"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    print(name, "is no module of the package")
"""
    done = python("-c", program, cwd=checkout)
    assert done.stdout.split() == [
        "sapool/__init__.py",
        "grammar/__init__.py",
        "passes/restride.py",
        "recipes/__init__.py",
    ]
