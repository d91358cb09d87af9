"""Another package's pooling, backbone, pass, data set and format: installed beside sapool, they are sapool's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sapool.digests import read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PLUGIN = Path(__file__).parent / "plugin"
# Commands come in as JSON, and codes and what was said of both streams go out so.
PROGRAM = """
import contextlib, io, json, sys, sapoolc
ended = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        code = sapoolc.main(words)
    ended.append((code, said.getvalue()))
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the other package in it, to be looked at before everything else."""
    folder = tmp_path_factory.mktemp("plugin")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site")]
    copy = folder / "source"
    copy.mkdir()
    for file in PLUGIN.rglob("*"):
        if file.is_file() and file.suffix != ".pyc":
            target = copy / file.relative_to(PLUGIN)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    subprocess.run([sys.executable, "-m", "pip", *words, str(copy)], check=True, capture_output=True)
    return folder / "site"


def sapoolc(environment: Path, cwd: Path, *words: str, code: int = 0) -> str:
    """What one command says, in a process that finds the other package."""
    return sapoolc_each(environment, cwd, words, code=code)[0]


def sapoolc_each(environment: Path, cwd: Path, *commands: tuple[str, ...], code: int = 0) -> list[str]:
    """What commands say, one after the other in one process, each ending with `code`."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(environment), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(commands), cwd=cwd, env=variables, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    ended = json.loads(done.stdout)
    assert [one for one, _ in ended] == [code] * len(commands), ended
    return [said for _, said in ended]


def test_it_is_listed(environment: Path, tmp_path: Path) -> None:
    listed = sapoolc_each(environment, tmp_path, ("list", "poolings"), ("list", "backbones"))
    assert "median " in listed[0]
    assert "tinynet " in listed[1]
    refused = sapoolc_each(
        environment, tmp_path, ("compile", "resnet18-medain-1222"), ("compile", "resnet18-median_nowin-1222"), code=2
    )
    assert "nearest valid spelling: resnet18-median-1222" in refused[0]
    assert "takes no modifiers" in refused[1]


def test_everything_follows(environment: Path, tmp_path: Path) -> None:
    """The plan, the cost, the pass with its reasons, the files."""
    text = "prepool-avgp-2-tinynet-median-22"
    files = ("model.pt", "plan.json", "model.py", "graph.nodes")
    inspected, *_, model, plan = sapoolc_each(
        environment,
        tmp_path,
        ("inspect", text, "--image-size", "32", "--json"),
        *(("compile", text, "--image-size", "32", "-o", name) for name in files),
        ("inspect", "model.pt"),
        ("inspect", "plan.json"),
    )
    said = json.loads(inspected)
    assert [site["pool"] and site["pool"]["kind"] for site in said["plan"]["sites"]] == ["avgp", "median", "median"]
    assert {r["target"] for r in said["rewrites"] if r["rule"] == "mark_medians"} == {"pools.stage1", "pools.stage2"}
    assert {"avgp is no median"} == {r["reason"] for r in said["refusals"] if r["rule"] == "mark_medians"}
    assert "mark_medians" in [run["rule"] for run in said["passes"]]
    assert {"pools.stage1", "pools.stage2"} <= {part["part"] for part in said["cost"]["parts"]}
    assert said["memory"]["peak"] > 0
    assert "pools_stage2\n" in (tmp_path / "graph.nodes").read_text()
    assert "build('median', 8, 2)" in (tmp_path / "model.py").read_text()
    assert model.startswith(text)
    assert plan.startswith(text)


def test_it_trains_and_draws(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "stripes.toml").write_text(
        'architecture = "tinynet-median-22"\n[data]\nname = "stripes"\n[optimizer]\nname = "adam"\nlr = 0.01\n'
        "[train]\nepochs = 4\nbatch_size = 8\n"
    )
    Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / "red.png")
    _, drawn = sapoolc_each(
        environment, tmp_path, ("train", "stripes.toml", "--run-dir", "run"), ("heatmap", "run", "red.png")
    )
    assert read_json(tmp_path / "run" / "summary.json")["test_accuracy"] > 0.9
    assert "heatmaps" in drawn


def test_without_the_package_its_file_says_what_is_missing(environment: Path, tmp_path: Path) -> None:
    text = "resnet18-median-1222"
    sapoolc(environment, tmp_path, "compile", text, "--image-size", "32", "-o", "model.pt")
    said = sapoolc(tmp_path / "nowhere", tmp_path, "inspect", "model.pt", code=2)
    assert "model.pt" in said
    assert "median" in said
