"""`sapoolc compile -o x.onnx`: what is refused before torch is loaded, and what is printed of a verified file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sapoolc
from tests.commands import ENVIRONMENT
from tests.commands import sapoolc as command

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


def test_a_budget_that_is_exceeded_leaves_nothing(tmp_path: Path) -> None:
    _, err = command("compile", *TINY, "--budget", "1KB", "-o", "x.pt2", code=1, cwd=tmp_path)
    first, last = err.splitlines()
    assert re.match(r"sapoolc: activations of [\d,]+ bytes exceed 1,024, ", first)
    assert last == "sapoolc: x.pt2 isn't written"
    assert not list(tmp_path.iterdir())


BOARD = (
    *("compile", "timm:mobilenetv2_035-skip-1222121", "--image-size", 64, "--num-classes", 10),
    *("--calibrate", "noise"),
)


@pytest.mark.slow
def test_a_board_in_a_budget_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    words = (*BOARD, "--device", "pico", "--json")
    plain = json.loads(command(*[word for word in words if word not in ("--calibrate", "noise")])[0])["device"]["arena"]
    found = json.loads(command(*words, "--budget", plain - 1, "-o", "board/", cwd=tmp_path)[0])
    recorded = found["verification"]["tflm"]
    assert recorded["streamed"]
    assert f"activations {recorded['head']:,}, " in found["device"]["made_of"]
    assert f"constexpr int kArenaSize = {-(-(recorded['head'] + recorded['tail']) // 1024) * 1024};" in (
        tmp_path / "board/model_data.h"
    ).read_text().replace(",", "")
    assert "Slice" in (tmp_path / "board/main.cc").read_text()
    assert {path.name for path in tmp_path.glob("board/*")} == {
        *("main.cc", "model_data.cc", "model_data.h", "model.int8.tflite", "model.int8.tflite.json"),
    }
    _, err = command(*words, "--budget", "8KB", "-o", "other/", code=1, cwd=tmp_path)
    assert "as TensorFlow Lite Micro runs it the network takes" in err
    assert err.endswith("sapoolc: other/ isn't written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["board"]


@pytest.mark.slow
def test_a_file_in_bands_of_its_own_needs_no_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("litert_torch")
    for room in ("streaming", "streamed"):
        monkeypatch.delattr(f"sapool.schedule.{room}.plan")  # whoever asks for one fails
    out, _ = command(*BOARD, "--stream", "-o", "x.int8.tflite", cwd=tmp_path)
    assert "in bands: " in out
    assert "arena, streamed" not in out
    _, err = command(*BOARD, "--budget", "8KB", "-o", "board/", code=1, cwd=tmp_path)
    assert "in TensorFlow Lite Micro the activations don't fit 8,192 bytes" in err
    assert {path.name for path in tmp_path.iterdir()} == {"x.int8.tflite", "x.int8.tflite.json"}


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
