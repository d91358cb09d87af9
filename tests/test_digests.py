"""Digests: no bit of a file that we write can change unnoticed, and files without one are read with a remark."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

import sapool
from sapool.digests import add_to_archive, check, check_text, json_with_digest, read_json, with_digest
from sapool.errors import InputError, NoDigestWarning, WeightsError
from sapool.recipes.reading import read_recipe, to_toml
from sapool.runs.folder import recipe_of
from sapool.weights.files import read_checkpoint
from tests.commands import sapoolc

TEXT = "resnet18-lip-2222"


def archive(path: Path) -> Path:
    torch.save({"a": torch.arange(40.0), "b": {"c": 1}}, path)
    add_to_archive(path)
    return path


def compiled() -> sapool.CompiledModel:
    return sapool.compile(TEXT, num_classes=2, image_size=64)


def refused(path: Path, content: bytes, read: Callable[[Path], object]) -> None:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError) as caught:
            read(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_every_bit_of_an_archive(step: int, tmp_path: Path) -> None:
    content = archive(tmp_path / "a.pt").read_bytes()
    assert check(tmp_path / "a.pt")
    for bit in sorted({*range(0, 8 * len(content), step), *range(8 * len(content) - 1000, 8 * len(content))}):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a.pt").write_bytes(changed)
        with pytest.raises(InputError, match=r"a\.pt is damaged"):
            check(tmp_path / "a.pt")


def test_every_length_of_an_archive(tmp_path: Path) -> None:
    content = archive(tmp_path / "a.pt").read_bytes()
    for length in sorted({*range(0, len(content), 17), *range(len(content) - 120, len(content))}):
        refused(tmp_path / "a.pt", content[:length], read_checkpoint)
    refused(tmp_path / "a.pt", content + b"\0", read_checkpoint)


def test_an_archive_is_still_one(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt")
    for options in ({}, {"mmap": True}):
        assert torch.equal(torch.load(path, weights_only=True, **options)["a"], torch.arange(40.0))


@pytest.mark.parametrize(
    "write",
    [lambda: with_digest('a = 1\nb = "x"\n'), lambda: json_with_digest({"a": [1, 2], "b": ":sapool"})],
    ids=["comment", "json"],
)
def test_every_bit_of_a_text(write: Callable[[], str], tmp_path: Path) -> None:
    content = write().encode()
    assert check_text(content, "it")
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InputError, match="it is damaged"):
            check_text(bytes(changed), "it")


def test_a_text_without_its_end_is_refused() -> None:
    text = with_digest("a = 1\nb = 2\n")
    first = len(text) - len("a = 1\nb = 2\n")
    for length in range(first - 1, len(text)):
        with pytest.raises(InputError):
            check_text(text[:length], "it")


def flips(content: bytes, count: int) -> list[bytes]:
    random, found = Random(0), []
    for _ in range(count):
        changed = bytearray(content)
        changed[random.randrange(len(content))] ^= 1 << random.randrange(8)
        found.append(bytes(changed))
    return found


def test_a_model_with_a_changed_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    sapool.save(compiled(), path)
    for changed in flips(path.read_bytes(), 4):
        refused(path, changed, sapool.load)
        refused(path, changed, read_checkpoint)


def test_a_plan_with_a_changed_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    sapoolc("compile", TEXT, "--image-size", "64", "-o", path)
    content = path.read_bytes()
    for changed in flips(content, 200):
        refused(path, changed, sapool.read_plan)
    for length in range(0, len(content), 97):
        refused(path, content[:length], sapool.read_plan)
    # In a recipe as well, where it stands as text.
    text = content.decode().replace('"stride": 2', '"stride": 4', 1)
    with pytest.raises(InputError, match="damaged, or was changed by hand"):
        read_recipe("digits", [f"plan={json.dumps(text)}"])


def test_a_plan_that_was_edited_is_read_without_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    sapoolc("compile", TEXT, "--image-size", "64", "-o", path)
    data = json.loads(path.read_text())
    data["options"]["num_classes"] = 7
    path.write_text(json.dumps(data, indent=2))
    with pytest.raises(InputError, match="take its digest out"):
        sapool.read_plan(path)
    del data["digest"]
    path.write_text(json.dumps(data, indent=2))
    with pytest.warns(NoDigestWarning, match=r"plan\.json has no digest"):
        assert sapool.read_plan(path).options.num_classes == 7
    assert "note: " in sapoolc("inspect", path)[1]


def test_files_of_earlier_versions_are_read_with_a_remark(tmp_path: Path) -> None:
    model, path = compiled(), tmp_path / "model.pt"
    sapool.save(model, path)
    whole = torch.load(path, weights_only=True)
    for way in (True, False):
        torch.save(whole, path, _use_new_zipfile_serialization=way)
        with pytest.warns(NoDigestWarning, match=r"model\.pt has no digest"):
            again = sapool.load(path)
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
    torch.save(model.state_dict(), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sapool.compile(TEXT, num_classes=2, image_size=64, weights=path)  # others' weights have none
    (tmp_path / "summary.json").write_text('{"a": 1}\n')
    with pytest.warns(NoDigestWarning):
        assert read_json(tmp_path / "summary.json") == {"a": 1}


def test_a_recipe_in_a_run_with_a_changed_bit_is_refused(tmp_path: Path) -> None:
    path, recipe = tmp_path / "recipe.toml", read_recipe("digits")
    path.write_text(with_digest(to_toml(recipe)))
    assert recipe_of(tmp_path).data == recipe.data
    for changed in flips(path.read_bytes(), 100):
        refused(path, changed, lambda _: recipe_of(tmp_path))
    path.write_text(to_toml(recipe))
    with pytest.warns(NoDigestWarning, match=r"recipe\.toml has no digest"):
        recipe_of(tmp_path)


def test_a_runs_files_have_digests(classifier_run: Path, tmp_path: Path) -> None:
    for name in ("model.pt", "last.ckpt", "best.ckpt"):
        assert check(classifier_run / name)
        (tmp_path / name).write_bytes(flips((classifier_run / name).read_bytes(), 1)[0])
        with pytest.raises(WeightsError, match=f"{name} is damaged"):
            read_checkpoint(tmp_path / name)
    for name in ("summary.json", "recipe.toml"):
        assert check_text((classifier_run / name).read_bytes(), name)


@pytest.mark.slow
def test_a_detectors_files_have_digests(detector_run: Path) -> None:
    assert all(check(path) for path in detector_run.glob("*.pth"))
    assert (detector_run / "epoch_2.pth").is_file()
    for name in ("summary.json", "recipe.toml", "config.py"):
        assert check_text((detector_run / name).read_bytes(), name)
