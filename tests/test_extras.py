"""What an installation may leave out is asked for by name, when it is needed; everything else works without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ENVIRONMENT

EXTRAS = {
    "detect": {"mmcv", "mmdet", "mmengine", "pycocotools"},
    "train": {
        *("lightning", "torchmetrics", "sklearn", "filelock", "matplotlib", "tensorboard", "pytorch_grad_cam"),
        *("mmcv", "mmdet", "mmengine", "pycocotools"),
    },
    "onnx": {"onnx", "onnxscript", "onnxruntime"},
    "report": {"bokeh", "jinja2"},
}

# Torch itself looks for some of these, and does without.
BLOCKED = """
import importlib.util, sys
absent = set(sys.argv.pop(1).split(","))
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Block())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in absent else real(name, package)
from sapoolc import main
sys.exit(main(sys.argv[1:]))
"""


def without(extra: str, *words: object, code: int) -> tuple[str, str]:
    """What `sapoolc` prints where the packages of an extra aren't installed."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, ",".join(EXTRAS[extra]), *map(str, words)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("detect", ("train", "ssd-digits")),
        pytest.param("detect", ("train", "ssd-digits", "--dry-run"), marks=pytest.mark.slow),
        pytest.param("detect", ("compile", "faster_rcnn", "-o", "config.py"), marks=pytest.mark.slow),
        ("report", ("report", "resnet18-lip-2222", "-o", "x.html")),
        ("report", ("inspect", "resnet18-lip-2222", "-o", "x.svg")),
        ("train", ("train", "digits")),
        ("onnx", ("compile", "resnet18-lip-2222", "-o", "x.onnx")),
        ("onnx", ("compile", "resnet18-lip-2222", "-o", "x.int8.onnx", "--calibrate", "noise")),
        ("train", ("train", "digits", "--dry-run")),
    ],
)
def test_a_command_says_what_to_install(extra: str, words: tuple[str, ...], tmp_path: Path) -> None:
    more = ("--run-dir", tmp_path / "run") if words[0] == "train" and "--dry-run" not in words else ()
    out, err = without(extra, *words, *more, code=2)
    assert out == ""
    assert f'pip install "sapool[{extra}]"' in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize(
    "words",
    [
        ("list", "recipes"),
        ("schema",),
        pytest.param(("compile", "resnet18-lip-2222", "--image-size", "64"), marks=pytest.mark.slow),
    ],
    ids=lambda words: words[0],
)
def test_everything_else_works_without(extra: str, words: tuple[str, ...]) -> None:
    assert without(extra, *words, code=0)[1] == ""


def test_recipes_are_read_without() -> None:
    _, err = without("detect", "train", "ssd-digits", "detector.bas=x", code=2)
    assert "Did you mean 'detector.base'?" in err
