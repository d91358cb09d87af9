"""The comparison with the authors' code, on a stand-in for it; and what is said where it isn't as it should be."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import nn

import sapool
from benchmarks import __main__ as command
from benchmarks.cases import TABLES, Case

STANDIN = """
from torch import nn

print("welcome")  # what code of others may do

def make(text):
    assert text == "resnet18-avgp-1222"
    return nn.Sequential(nn.Conv2d(3, 10, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def fails(text):
    raise KeyError("no " + text)

def text(text):
    return text

number = 3
"""


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A checkout of stand-ins, and children as calls in this process."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").touch()
    (tmp_path / "nets" / "build.py").write_text(STANDIN)
    (tmp_path / "nets" / "bare.py").write_text("import a_package_that_nobody_has")
    (tmp_path / "nets" / "broken.py").write_text("raise RuntimeError('it has moved\\nelsewhere')")
    monkeypatch.setitem(TABLES, "published", (Case("resnet18-avgp-1222", 32, "step", "published", "paper"),))
    monkeypatch.setattr(subprocess, "run", _run)
    monkeypatch.setattr(sys, "path", [*sys.path])
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nets"]:
        del sys.modules[name]


def _run(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command.main(words[words.index("benchmarks") + 1 :])
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def test_ours_beside_the_stand_in(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ours(text: str, **options: object) -> nn.Module:
        asked.append((text, options))
        return nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    monkeypatch.setattr(sapool, "compile", ours)
    words = ["--published", str(here), "--published-factory", "nets.build:make", "--repeats", "1", "--batch", "2"]
    assert command.main(words) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("`resnet18-avgp-1222` 32x32, step, against published: time ")
    assert ", memory " in line
    assert asked == [("resnet18-avgp-1222", {"image_size": 32, "dialect": "paper"})] * 2  # for time, and for memory


@pytest.mark.parametrize(
    ("folder", "factory", "said"),
    [
        ("elsewhere", "nets.build:make", "--published: there is no folder '*"),
        ("", None, "--published: say what makes a network of a string there, with --published-factory module:function"),
        (None, "nets.build:make", "--published-factory: say where the code is, with --published PATH"),
        ("", "nets.build", "--published-factory: expected module:function, not 'nets.build'"),
        ("", "nets/build:make", "--published-factory: expected module:function, not 'nets/build:make'"),
        ("", "knots.build:make", "--published-factory: there is no module knots.build in *"),
        ("", "nets.built:make", "--published-factory: there is no module nets.built in *"),
        ("", "nets.bare:make", "--published: nets.bare needs a_package_that_nobody_has, which isn't installed"),
        ("", "nets.broken:make", "--published: nets.broken can't be imported: it has moved"),
        ("", "nets.build:made", "--published-factory: nets.build has no function made"),
        ("", "nets.build:number", "--published-factory: nets.build has no function number"),
        ("", "nets.build:fails", "--published: the function failed on resnet18-avgp-1222: 'no resnet18-avgp-1222'"),
        ("", "nets.build:text", "--published: the function returned str for *; expected a torch.nn.Module"),
    ],
)
def test_what_is_missing(
    here: Path, folder: str | None, factory: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [] if folder is None else ["--published", str(here / folder)]
    words += [] if factory is None else ["--published-factory", factory]
    assert command.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    start, _, end = said.partition("*")
    assert err.startswith(f"python -m benchmarks: {start}")
    assert err.endswith(f"{end}\n")
    assert err.count("\n") == 1
