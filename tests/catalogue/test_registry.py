"""Registries: declarations are read without importing what they stand on, and one name has one owner."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from sapool.catalogue import registry as module
from sapool.catalogue.registry import Registry
from sapool.errors import InputError

PACKAGE = """
raise SystemExit("listings import nothing")

SHARED = (1, 2)

@register_thing("first", size=SHARED, rank=2)
@other_decorator
@things.register_thing("second", size=(3,))
def make():
    pass

@register_thing("third")
class Third:
    pass
"""


@dataclass(frozen=True)
class Thing:
    name: str
    target: str = ""
    size: tuple[int, ...] = ()
    rank: int = 100


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "things_of_others"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('nor the package')\n")
    (package / "plain.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.startswith("things_of_others")]:
        del sys.modules[name]


def things(*modules: str, **options: Any) -> Registry[Thing]:
    return Registry(
        "thing", decorator="register_thing", entry=Thing, group="sapool.nothing", modules=modules, **options
    )


def test_declarations_are_read_from_the_source(folder: Path) -> None:
    found = things("things_of_others.plain", given=(Thing("zeroth", rank=0),))
    assert list(found) == ["zeroth", "first", "second", "third"]
    assert found["first"] == Thing("first", "things_of_others.plain:make", (1, 2), 2)
    assert found["second"].size == (3,)
    assert found["third"].target == "things_of_others.plain:Third"
    assert list(things("things_of_others")) == ["first", "second", "third"]
    assert not [name for name in sys.modules if name.startswith("things_of_others")]


def test_what_is_not_plain_is_imported(folder: Path) -> None:
    (folder / "__init__.py").write_text("")
    (folder / "made.py").write_text(
        "from things_of_others import found\n\n@found.register('made', size=tuple(range(2)))\ndef make(): pass\n"
    )
    found = things("things_of_others.made")
    found.decorator = "register"
    sys.modules.pop("things_of_others", None)
    import things_of_others  # type: ignore[import-not-found]  # noqa: PLC0415

    things_of_others.found = found
    assert found["made"].size == (0, 1)
    assert found.load("made").__name__ == "make"


def test_registering_while_a_program_runs() -> None:
    found = things(given=(Thing("taken"),))

    @found.register("mine", size=(4,))
    class Mine:
        pass

    assert found.load("mine") is Mine
    assert found["mine"].size == (4,)
    with pytest.raises(ValueError, match="the thing 'taken' is taken: by sapool itself, and now by"):
        found.register("taken")(Mine)
    with pytest.raises(ValueError, match="the thing 'mine' is taken"):
        found.register("mine")(type("Other", (), {}))
    for name in ("", "Mine", "my-thing", "_mine", "mine_", "4", "a b"):
        with pytest.raises(ValueError, match="can't be the name of a thing"):
            found.register(name)(Mine)


def test_a_cell_that_runs_again_takes_its_own_place() -> None:
    found = things()
    for size in (1, 2):
        thing = type("Thing", (), {"__module__": "__main__"})
        found.register("again", size=(size,))(thing)
        assert found["again"].size == (size,)
        assert found.load("again") is thing


def test_packages_that_are_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        [
            EntryPoint("others", "things_of_others.plain", "sapool.nothing"),
            EntryPoint("broken", "no_such_package", "sapool.nothing"),
        ]
    )
    monkeypatch.setattr(module, "entry_points", lambda group: points.select(group=group))
    found = things(given=(Thing("first"),))
    with pytest.warns(UserWarning, match="thing") as told:
        assert list(found) == ["first", "second", "third"]
    assert found["first"].target == ""
    said = sorted(str(warning.message) for warning in told)
    assert said == [
        "the things of no_such_package can't be used: there is no module no_such_package",
        "things_of_others.plain declares a thing 'first', as sapool itself does, which holds",
    ]


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"there is no thing 'frist'; there are first\. Did you mean 'first'\?"):
        things(given=(Thing("first"),)).find("frist")


def test_listings_import_no_torch() -> None:
    program = """
import sys
import sapool
from sapool.catalogue.backbones import BACKBONES
from sapool.catalogue.data_sets import DATA_SETS
from sapool.catalogue.formats import FORMATS
from sapool.catalogue.passes import PASSES
from sapool.catalogue.poolings import POOLINGS
assert all((BACKBONES, DATA_SETS, FORMATS, PASSES, POOLINGS))
sapool.parse("prepool-nlp-4-resnet18-nlp-1222")
print(sorted(name for name in sys.modules if name in ("torch", "torchvision", "lightning", "mmdet")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
