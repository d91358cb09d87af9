"""Graphs as files, from the command line: the suffix says which."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.commands import sapoolc

TEXT = ("mobilenet-lip-1222121", "--image-size", "64")


@pytest.mark.slow
def test_inspect_writes_pages_pictures_and_what_model_explorer_opens(tmp_path: Path) -> None:
    page, picture, graph = (tmp_path / name for name in ("graph.html", "graph.svg", "net.model-explorer.json"))
    assert "graph.html" in sapoolc("inspect", *TEXT, "-o", page)[0]
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert page.stat().st_size < 500_000
    sapoolc("inspect", *TEXT, "-o", picture)
    said = {text.text for text in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")}
    assert {"insert_pools", "stage3", "classifier"} <= said
    assert "net.model-explorer.node-data.json" in sapoolc("inspect", *TEXT, "-o", graph)[0]
    nodes = json.loads(graph.read_text(encoding="utf-8"))[0]["nodes"]
    overlay = json.loads((tmp_path / "net.model-explorer.node-data.json").read_text(encoding="utf-8"))
    assert set(overlay["after"]["results"]) <= {node["id"] for node in nodes}
    assert len([node for node in nodes if node["id"].startswith("pools_")]) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("inspect", "resnet18-lip-2222", "-o", "graph.png"), "a graph is written as .html, .svg or"),
        (("report", "resnet18-lip-2222", "-o", "report.pdf"), "a report is a page; name it .html"),
        (("report", "runs/nothing", "-o", "report.html"), "there is no run and no file runs/nothing"),
        (("report", ".", "-o", "report.html"), "holds no run"),
        (("report", "resnet18-lpi-2222", "-o", "report.html"), "unknown pooling 'lpi'"),
    ],
)
def test_mistakes_write_nothing(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    _, err = sapoolc(*words, code=2, cwd=tmp_path)
    assert said in err
    assert not list(tmp_path.iterdir())
