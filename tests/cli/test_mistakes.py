"""Mistakes that people make, each with its whole answer: `mistakes.toml` beside this file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.mistakes import lay_out

FILE = Path(__file__).with_name("mistakes.toml")
MISTAKES = {entry["command"]: entry["answer"] for entry in tomllib.loads(FILE.read_text(encoding="utf-8"))["mistake"]}

PROGRAM = """
import contextlib, io, json, shlex, sys
from sapoolc import main
answers = {}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            code = main(shlex.split(command))
        except SystemExit as stop:
            code = stop.code
    heavy = {"torch", "torchvision", "numpy", "lightning", "mmengine"} & set(sys.modules)
    answers[command] = [code, out.getvalue(), err.getvalue(), sorted(heavy)]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """One process answers all of them, so that each is known to have loaded nothing that takes long."""
    folder = tmp_path_factory.mktemp("mistakes")
    lay_out(folder)
    command = [sys.executable, "-c", PROGRAM, json.dumps(list(MISTAKES))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


def test_there_are_forty() -> None:
    assert len(MISTAKES) >= 40


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_answered_before_torch_is_loaded(answers: dict[str, list[object]], command: str) -> None:
    code, out, err, heavy = answers[command]
    assert (code, out, heavy) == (2, "", [])
    # Three dots stand for a list that grows.
    whole = re.escape(MISTAKES[command].strip()).replace(re.escape("..."), ".+?")
    assert re.fullmatch(whole, str(err).strip(), re.DOTALL), err
