"""The README says what is so: its examples are run, and its table is held to the catalogues."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models
from torchvision.models import WeightsEnum

import sapool
import sapoolc
from sapool.catalogue.backbones import BACKBONES, PLACES
from sapool.catalogue.poolings import MODIFIERS, POOLINGS
from sapool.recipes import names
from tests.fences import blocks

FILE = Path(__file__).resolve().parents[1] / "README.md"
README = FILE.read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


EXAMPLES = [block for block in blocks(README) if block.startswith("$ sapoolc ")]


def test_set_up_has_two_commands() -> None:
    """Whoever checks the README takes these, and runs them on a fresh machine."""
    assert len(blocks(section("Set up"), "sh")) == 2
    assert len(blocks(README, "sh")) == 2
    assert all("python3 -m venv .venv && " in block for block in blocks(section("Set up"), "sh"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_example_prints_what_the_readme_shows(
    example: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    command, shown = example.split("\n", 1)
    code = sapoolc.main(shlex.split(command)[2:])
    out, err = capsys.readouterr()
    refused = shown.startswith("sapoolc: ")
    assert code == (2 if refused else 0)
    assert stripped(err if refused else out) == stripped(shown)
    assert (out if refused else err) == ""


def test_examples_are_of_a_success_and_a_mistake() -> None:
    commands = [shlex.split(example.splitlines()[0])[1:] for example in EXAMPLES]
    lead = "mobilenet-nlp_headfix2_nowin_reduced8422111-4222121"
    assert ["sapoolc", "compile", lead, "--image-size", "256"] in commands
    assert any("\nsapoolc: " in example for example in EXAMPLES)


def test_figures_in_the_text_are_those_of_the_example() -> None:
    """The first paragraph's percentages, and what is said of a string that saves nothing."""
    (example,) = [example for example in EXAMPLES if "--image-size 256" in example]
    ratios = {
        name: float(re.findall(rf"^{name}\b.* ([0-9.]+)x$", example, re.MULTILINE)[0])
        for name in ("MACs", "peak activations")
    }
    macs, memory = re.findall(r"(\d+) %", README.split("\n## ")[0])
    assert (int(macs), int(memory)) == (round(100 * ratios["MACs"]), round(100 * ratios["peak activations"]))
    cost = sapool.cost(sapool.compile("prepool-nlp-4-resnet18-nlp-1222"))
    assert f"{cost.memory.peak / cost.baseline_memory.peak:.1f} times ResNet-18's peak" in README


def test_library(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The block as it stands, but for the download, which gives random numbers of the real shapes."""
    monkeypatch.chdir(tmp_path)
    state = models.resnet18().state_dict()
    asked = []

    def fetch(entry: WeightsEnum, **_: Any) -> dict[str, Tensor]:
        asked.append(entry)
        return state

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", fetch)
    monkeypatch.setattr("sapool.catalogue.hubs.silence", lambda _: None)
    (block,) = blocks(section("The library"), "python")
    values: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), values)

    assert values["logits"].shape == (2, 10)
    assert [tuple(y.shape) for y in values["maps"]] == [(1, 128, 14, 14), (1, 256, 7, 7), (1, 512, 3, 3)]
    assert asked == [models.ResNet18_Weights.DEFAULT]
    backbone = values["backbone"]
    assert torch.equal(backbone.get_parameter("layer3.0.conv1.weight"), state["layer3.0.conv1.weight"])
    figures, transfer = capsys.readouterr().out.splitlines()
    model = values["model"]
    assert figures.split() == [str(model.plan.site("stage2").attention.heads), str(len(model.rewrites)), "32"]
    assert transfer.startswith("120 tensors transferred, ")
    assert "pools.stage4.*" in transfer
    assert transfer.endswith("dropped: fc.weight (no such key), fc.bias (no such key)")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


# Of those that were added since, `sapoolc list poolings` tells.
PUBLISHED = [name for name, entry in POOLINGS.items() if entry.rank < 100]


@pytest.mark.parametrize(
    "name", [*PUBLISHED, *(f"_{name}" for name in MODIFIERS), "_v2", "dy", "prepool-<pooling>-<stride>"]
)
def test_language_table_names(name: str) -> None:
    table = [line for line in section("The language").splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in line for line in table)


def test_language_table_names_nothing_else() -> None:
    """Every word of the rows of poolings is of the published ones, or of the catalogue."""
    rows = [line.split("|")[2] for line in section("The language").splitlines() if line.startswith("|")]
    words = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    assert {*PUBLISHED} <= words <= {*POOLINGS}


def backbone_table() -> str:
    """The README's table of backbones, made of the catalogue: a row for those that share strides and places."""
    alike: dict[tuple[str, str], list[str]] = {}
    for entry in BACKBONES.values():
        alike.setdefault((entry.strides, PLACES[entry.pools]), []).append(f"`{entry.name}`")
    rows = [(" ".join(names), str(len(strides)), strides, place) for (strides, place), names in alike.items()]
    head = [("backbones", "stages", "unchanged strides", "pools go"), ("---",) * 4]
    return "\n".join("| " + " | ".join(row) + " |" for row in [*head, *rows]) + "\n"


def test_table_of_backbones_is_made_of_the_catalogue() -> None:
    """`SAPOOL_UPDATE_GOLDEN=1 pytest tests/test_readme.py` writes it anew."""
    shown = "".join(line + "\n" for line in section("Backbones").splitlines() if line.startswith("|"))
    if "SAPOOL_UPDATE_GOLDEN" in os.environ:
        FILE.write_text(README.replace(shown, backbone_table()), encoding="utf-8")
        shown = backbone_table()
    assert shown == backbone_table()


def test_recipes_are_shipped() -> None:
    trained = re.findall(r"sapoolc train ([\w-]+)", README)
    assert "digits" in trained
    assert set(trained) - {"RECIPE"} <= set(names())
