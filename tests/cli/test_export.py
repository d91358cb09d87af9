"""`sapoolc compile -o x.onnx`: what is refused before torch is loaded, and what is printed of a verified file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sapoolc
from tests.commands import ENVIRONMENT

TINY = ("resnet18-lip-2222", "--features-only", "--out-indices", "0", "--image-size", "32")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "x.int8.onnx"), "integers are fitted to images; name a run or a folder of them with --calibrate"),
        (("-o", "x.pt", "--calibrate", "noise"), "nothing is calibrated in x.pt"),
        (("--calibrate", "noise"), "nothing is written; name the file with -o"),
    ],
)
def test_what_can_be_told_at_once(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    light = "assert 'torch' not in sys.modules"
    script = f"import sys; from sapoolc import main; code = main(sys.argv[1:]); {light}; sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", script, "compile", TINY[0], *words],
        env=ENVIRONMENT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_calibration_that_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sapoolc.main(["compile", *TINY, "-o", "x.pt2", "--calibrate", "nowhere"]) == 2
    assert "nowhere is no folder; name a folder of images, a run, or 'noise'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_verified_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    assert sapoolc.main(["compile", *TINY, "-o", "x.int8.onnx", "--calibrate", "noise"]) == 0
    printed = capsys.readouterr().out
    assert "x.int8.onnx: " in printed
    assert "compared with the model in ONNX Runtime" in printed
    assert "The ranges were fitted to noise" in printed
    assert [row["name"] for row in json.loads(Path("x.int8.onnx.json").read_text())["compared"]] == [
        "stage1",
        "pools.stage1",
    ]
