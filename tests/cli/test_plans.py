"""A plan's file, edited as a person would edit it, wherever a command takes an architecture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sapool
from sapool.digests import read_json
from sapool.errors import InputError
from sapool.recipes.reading import read_recipe
from tests.commands import sapoolc

TEXT = "resnet18-nlp_headfix2-1222"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The plan of TEXT with local importance pooling, and no downsampling, at its third stage."""
    path = tmp_path / "plan.json"
    sapoolc("compile", TEXT, "--image-size", 64, "-o", path)
    data = read_json(path)
    (site,) = (site for site in data["sites"] if site["name"] == "stage3")
    site["stride"] = 1
    site["pool"] |= {"kind": "lip", "attention": None}
    path.write_text(json.dumps(data))
    return path


def test_compile_and_inspect_show_what_is_edited(file: Path) -> None:
    for command in ("compile", "inspect"):
        out, _ = sapoolc(command, file)
        assert out.startswith(f"{TEXT}  (resnet18, torchvision dialect, 64x64)\n\nedited: stage3.stride: 2 -> 1\n")
        (row,) = (line.split() for line in out.splitlines() if line.startswith("stage3 ") and " pool " in line)
        assert row[:6] == ["stage3", "pool", "1", "lip", "256", "8x8"]
    said = json.loads(sapoolc("inspect", file, "--json")[0])
    assert [feature["reduction"] for feature in said["features"]] == [4, 8, 8, 16]


def test_an_edited_plan_becomes_a_model(file: Path, tmp_path: Path) -> None:
    sapoolc("compile", file, "-o", tmp_path / "model.pt")
    model = sapool.load(tmp_path / "model.pt")
    assert model.plan == sapool.execute(sapool.read_plan(file)).plan
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    out, _ = sapoolc("inspect", tmp_path / "model.pt")
    assert "edited: stage3.stride: 2 -> 1" in out
    sapoolc("compile", tmp_path / "model.pt", "-o", tmp_path / "again.json")
    assert sapool.read_plan(tmp_path / "again.json").sites == model.plan.sites


def test_a_wrong_plan_is_refused_by_site_and_field(file: Path) -> None:
    data = json.loads(file.read_text())
    data["sites"][2]["pool"]["attention"]["heads"] = 3
    file.write_text(json.dumps(data))
    for command in ("compile", "inspect"):
        _, err = sapoolc(command, file, code=2)
        assert "\nsapoolc: plan: stage2.pool.attention.embedding: 128 channels can't be shared by 3 heads" in err
    data["sites"][2]["pool"]["attention"]["heads"] = "three"
    file.write_text(json.dumps(data))
    _, err = sapoolc("inspect", file, code=2)
    assert f"{file} isn't a plan: sites.stage2.pool.attention.heads: input should be a valid integer" in err


@pytest.mark.slow
def test_a_run_keeps_its_plan(file: Path, tmp_path: Path) -> None:
    """Trained, resumed, opened and compared without the file, which may have gone or changed since."""
    recipe = tmp_path / "edited.toml"
    recipe.write_text(
        'extends = "digits"\narchitecture = "plan.json"\n[data]\nimage_size = 32\n[train]\nepochs = 1\n'
        "steps_per_epoch = 2\nbatch_size = 8\n"
    )
    folder = tmp_path / "run"
    sapoolc("train", recipe, "--run-dir", folder)
    sapoolc("train", "--resume", "--run-dir", folder, recipe)
    file.unlink()
    run = sapool.open_run(folder)
    assert [feature.reduction for feature in run.model.feature_info] == [4, 8, 8, 16]
    assert run.model.plan.options.num_classes == 10
    assert sapool.load(folder / "model.pt").plan.site("stage3").pool.kind == "lip"  # type: ignore[union-attr]
    sapoolc("compare", folder, "-o", tmp_path / "compare.png")
    _, err = sapoolc("train", "--resume", "--run-dir", folder, "digits", f"architecture={TEXT}", code=2)
    assert "has another recipe" in err
    assert "plan is" in err
    assert len(err) < 1000


def test_an_override_names_a_plan(file: Path) -> None:
    recipe = read_recipe("digits", [f"architecture={file}"])
    assert recipe.architecture == TEXT
    assert recipe.plan == file.read_text()
    with pytest.raises(InputError, match="dialect: the plan is of the torchvision dialect"):
        read_recipe("digits", [f"architecture={file}", "dialect=paper"])
    with pytest.raises(InputError, match=r"gone\.json can't be read"):
        read_recipe("digits", ["architecture=gone.json"])


def test_passes_between(file: Path) -> None:
    out, _ = sapoolc("inspect", TEXT, "--image-size", 64, "--after", "insert_pools")
    assert "after insert_pools" in out
    assert "pools_stage2" in out
    out, _ = sapoolc("inspect", file, "--print-changed")
    titles = [line for line in out.splitlines() if line.startswith("after ")]
    assert titles == ["after insert_pools", "after restride"]
    out, _ = sapoolc("compile", TEXT, "--image-size", 64, "--without", "insert_pools", "--json")
    assert "pools.stage2" not in {part["part"] for part in json.loads(out)["cost"]["parts"]}
    _, err = sapoolc("inspect", TEXT, "--after", "insert_pool", code=2)
    assert "there is no pass 'insert_pool'" in err
    assert "Did you mean 'insert_pools'?" in err
    _, err = sapoolc("inspect", TEXT, "--after", "fold_norms", code=2)
    assert f"the pass fold_norms doesn't run for {TEXT}" in err


def test_images_as_they_are() -> None:
    out, _ = sapoolc("compile", "mobilenet-lip-1222121", "--image-size", "96x160", "--in-chans", 1)
    assert "96x160" in out.splitlines()[0]
    _, err = sapoolc("compile", "mobilenet-lip-1222121", "--in-chans", 0, code=2)
    assert "in_chans: expected a positive number, not 0" in err
