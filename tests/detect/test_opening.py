"""A run is data: opening one, or going on with it, executes nothing that lies in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

import sapool
from sapool.detect.binding.base import KEPT, load_base
from sapool.detect.binding.config import write_config
from sapool.detect.binding.literal import is_data, read_literal
from sapool.errors import InputError
from tests.detect.support import SHIPPED, command, digits_recipe, overrides


@pytest.mark.parametrize("name", SHIPPED)
def test_a_kept_base_is_the_base(name: str, tmp_path: Path) -> None:
    base = load_base(SHIPPED[name])
    write_config(base, tmp_path / KEPT)
    assert read_literal(tmp_path / KEPT) == base.to_dict()


@pytest.mark.slow
def test_a_base_of_ones_own_is_run_once(detection_data: Path, tmp_path: Path) -> None:
    """Trained, opened, evaluated and resumed; the program runs in the first alone, and may have gone since."""
    marks = tmp_path / "marks"
    own = tmp_path / "own.py"
    shipped = load_base(digits_recipe("ssd-digits", detection_data).detector.base)
    write_config(shipped, own)
    own.write_text(own.read_text() + f"open({str(marks)!r}, 'a').write('run\\n')\n")
    folder = tmp_path / "run"
    words = [*overrides(detection_data), "train.epochs=1", f"detector.base={own}"]
    command("train", "ssd-digits", *words, "--run-dir", folder)
    count = marks.read_text().count("run")
    own.write_text(own.read_text() + "raise SystemExit('not again')\n")
    run = sapool.open_run(folder)
    assert len(run.classes) == 10
    command("evaluate", folder)
    command("train", "--resume", "--run-dir", folder)
    own.unlink()
    assert sapool.open_run(folder).epoch == 1
    assert marks.read_text().count("run") == count


def test_a_program_in_somebodys_run_is_refused(detector_run: Path, tmp_path: Path) -> None:
    run, mark = tmp_path / "run", tmp_path / "exploded"
    shutil.copytree(detector_run, run)
    program = run / "evil.py"
    program.write_text(f"import os\nos.system('touch {mark}')\nmodel = dict(backbone=dict())\n")
    recipe = run / "recipe.toml"
    lines = [
        f"base = {json.dumps(str(program))}" if line.startswith("base = ") else line
        for line in recipe.read_text().splitlines()[1:]  # without its digest
    ]
    recipe.write_text("\n".join(lines))
    for words in (("evaluate", run), ("predict", run, program), ("train", "--resume", "--run-dir", run)):
        _, err = command(*words, code=2)
        assert "isn't executed when a run is opened" in err
    (run / KEPT).write_text(program.read_text())
    assert "nothing of a run is executed" in command("evaluate", run, code=2)[1]
    kept = load_base(SHIPPED["ssd"]).to_dict()
    kept["model"]["neck"] |= {"type": "os.system", "command": "touch x"}
    write_config(Config(kept), run / KEPT)
    assert "model.neck.type is 'os.system', which isn't among" in command("evaluate", run, code=2)[1]
    assert not mark.exists()
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "a = b",
        "a, b = 1, 2",
        "a = dict(**{})",
        "a = f()",
        "a = [x for x in ()]",
        "a = 'x' + 'y'",
        "a.b = 1",
    ],
)
def test_programs_are_no_data(text: str, tmp_path: Path) -> None:
    (tmp_path / KEPT).write_text(text + "\n")
    with pytest.raises(InputError, match="nothing of a run is executed"):
        read_literal(tmp_path / KEPT)


def test_data_is() -> None:
    assert is_data("a = dict(b=[1, -2.5, (None, True)], c={'d': 'e'})\n")
    assert not is_data("(" * 5000)
    assert not is_data(None)
