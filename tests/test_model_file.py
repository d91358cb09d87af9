"""Models on disk: what is saved comes back, whole files or none, and what isn't a model is refused in a sentence."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sapool
from sapool.errors import InputError, WeightsError

SIZE = 64

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("resnet18-nlp-1222", {"num_classes": 10}),
    ("prepool-nlp_headfix2_nowin-4-resnet18-gaussian_pool-1222", {"num_classes": 7, "image_size": 96}),
    ("resnet18_v2-attnpool-2221", {"num_classes": 1, "dialect": "paper"}),
    ("mobilenet-lip-1222121", {"num_classes": 10, "dialect": "paper"}),
    ("dymobilenet_v2-skip-1222121", {"num_classes": 10}),
    ("resnet18_v2-dfmixp_reduced0211-1222", {"features_only": True, "out_indices": (2, 0)}),
    ("dyresnet18-nlp-1211", {"features_only": True, "out_indices": [1]}),
    ("mobilenet-maxp-1222121", {"features_only": True}),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pt"


def tiny() -> sapool.CompiledModel:
    """Half a megabyte: the stem and the first stage of a resnet18."""
    return sapool.compile("resnet18-lip-2222", features_only=True, out_indices=(0,))


def same(a: nn.Module, b: nn.Module) -> bool:
    """Same keys in the same order, same numbers of the same types."""
    pairs = list(zip(a.state_dict().items(), b.state_dict().items(), strict=True))
    return all(k == m and x.dtype == y.dtype and torch.equal(x, y) for (k, x), (m, y) in pairs)


@pytest.mark.parametrize(("text", "options"), MODELS, ids=[text for text, _ in MODELS])
def test_round_trip(path: Path, text: str, options: dict[str, Any]) -> None:
    model = sapool.compile(text, **options)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)  # running statistics that aren't those of a new model
    sapool.save(model, path)
    loaded = sapool.load(path)

    assert isinstance(loaded, sapool.CompiledModel)
    assert loaded.plan == model.plan
    assert loaded.architecture == model.architecture
    assert loaded.rewrites == model.rewrites
    assert loaded.refusals == model.refusals
    assert loaded.feature_info == model.feature_info
    assert loaded.code == model.code
    assert same(loaded, model)
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs, expected = loaded.eval()(x), model.eval()(x)
    assert type(outputs) is type(expected)
    assert all(torch.equal(y, z) for y, z in zip(outputs, expected, strict=True))  # of feature maps, or of images


def test_a_loaded_model_is_as_a_new_one(path: Path) -> None:
    sapool.save(sapool.compile("resnet18-lip-1222", num_classes=10).eval(), path)
    loaded = sapool.load(str(path))
    assert all(module.training for module in loaded.modules())
    assert all(tensor.device.type == "cpu" for tensor in loaded.state_dict().values())
    assert all(isinstance(p, nn.Parameter) and p.requires_grad and p.is_leaf for p in loaded.parameters())
    before = loaded.state_dict()["conv1.weight"].clone()
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    F.cross_entropy(loaded(torch.randn(2, 3, SIZE, SIZE)), torch.tensor([1, 2])).backward()
    optimizer.step()
    assert not torch.equal(loaded.state_dict()["conv1.weight"], before)
    # The file is no part of the model any more.
    path.unlink()
    assert not torch.equal(loaded.state_dict()["conv1.weight"], before)


def test_a_file_is_plain_data(path: Path) -> None:
    model = sapool.compile("resnet18-lip-2222", num_classes=3, image_size=96)
    sapool.save(model, path)
    content = torch.load(path, weights_only=True)
    assert content.keys() >= {"format", "architecture", "plan", "state_dict"}
    assert content["architecture"] == "resnet18-lip-2222"
    assert json.loads(content["plan"])["options"] == {
        "dialect": "torchvision",
        "num_classes": 3,
        "in_chans": 3,
        "image_size": [96, 96],
        "features_only": False,
        "out_indices": None,
    }
    assert list(content["state_dict"]) == list(model.state_dict())


def test_a_file_of_the_format_before_this_one(path: Path) -> None:
    """It held the arguments of `compile` in place of a plan."""
    model = sapool.compile("resnet18-lip-2222", num_classes=3, image_size=96, features_only=True, out_indices=(0, 2))
    options = {
        "num_classes": 3,
        "dialect": "torchvision",
        "image_size": 96,
        "features_only": True,
        "out_indices": [0, 2],
    }
    content = {
        "format": "sapool-model-1",
        "architecture": "resnet18-lip-2222",
        "options": options,
        "optimized": False,
        "state_dict": model.state_dict(),
    }
    torch.save(content, path)
    assert same(sapool.load(path), model)
    assert sapool.load(path).plan == model.plan


@pytest.mark.parametrize("text", ["resnet18-nlp-1222", "resnet18-hwd-1222"])
def test_an_optimized_file_from_before_projections_were_folded(path: Path, text: str) -> None:
    model = sapool.compile(text, num_classes=3, image_size=64).eval()
    for left_out in ((), ("fold_projections",)):
        tuned = sapool.optimize(model, without=left_out)
        sapool.save(tuned, path)
        loaded = sapool.load(path)
        assert same(loaded, tuned)
        assert loaded.origin.optimized


def test_an_edited_plan_is_saved_and_loaded(path: Path) -> None:
    plan = sapool.make_plan("resnet18-nlp-1222", num_classes=3, image_size=64)
    model = sapool.execute(plan.with_pool("stage3", "lip", stride=1).with_pool("stage4", "nlp", heads=2, window=False))
    sapool.save(model, path)
    loaded = sapool.load(path)
    assert same(loaded, model)
    assert loaded.plan == model.plan != sapool.compile("resnet18-nlp-1222", num_classes=3, image_size=64).plan


def test_what_was_loaded_saves_again(path: Path) -> None:
    model = tiny()
    sapool.save(model, path)
    sapool.save(sapool.load(path), path)
    assert same(sapool.load(path), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_types_are_kept(path: Path, dtype: torch.dtype) -> None:
    model = tiny().to(dtype)
    norms = torch.float64 if dtype == torch.float64 else torch.float32  # those of halves may be single
    model.get_submodule("bn1").to(norms)
    sapool.save(model, path)
    loaded = sapool.load(path)
    assert same(loaded, model)
    assert loaded.get_parameter("conv1.weight").dtype == dtype
    assert loaded.get_parameter("bn1.weight").dtype == norms


def test_the_default_device_and_type_do_not_matter(path: Path) -> None:
    model = tiny()
    sapool.save(model, path)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            loaded = sapool.load(path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(loaded, model)


# Whole or not there


def half(content: object, path: Path) -> NoReturn:
    path.write_bytes(b"half a fi")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(InputError, match=r"model\.pt can't be written: No space left on device"):
        sapool.save(tiny(), path)
    assert list(path.parent.iterdir()) == []


def interrupt(content: object, path: Path) -> NoReturn:
    path.write_bytes(b"half a fi")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("fail", "error"), [(half, InputError), (interrupt, KeyboardInterrupt)])
def test_an_older_file_outlives_a_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[..., NoReturn], error: type[BaseException]
) -> None:
    older = tiny()
    sapool.save(older, path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(error):
            sapool.save(tiny(), path)
    assert list(path.parent.iterdir()) == [path]
    assert same(sapool.load(path), older)


def test_a_file_appears_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is written the file lies beside its place under another name."""
    save, seen = torch.save, []

    def watch(content: object, target: Path) -> None:
        save(content, target)
        seen.append((target.parent == path.parent, target != path, path.exists()))

    monkeypatch.setattr(torch, "save", watch)
    sapool.save(tiny(), path)
    assert seen == [(True, True, False)]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_rights_of_any_new_file(path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        sapool.save(tiny(), path)
        (path.parent / "plain").touch()
    finally:
        os.umask(old)
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode


@pytest.mark.parametrize("place", ["nowhere/model.pt", "file/model.pt", "."])
def test_places_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be written"):
        sapool.save(tiny(), tmp_path / place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# What isn't a model


def refuse(path: Path, *fragments: str) -> str:
    """What is said of a file that can't be loaded: its name, and the fragments."""
    with pytest.raises(WeightsError) as caught:
        sapool.load(path)
    message = str(caught.value)
    for fragment in (path.name, *fragments):
        assert fragment in message
    return message


def test_no_such_file(path: Path) -> None:
    refuse(path, "no such file")
    path.mkdir()
    refuse(path, "can't be read: Is a directory")


def test_files_cut_short(path: Path) -> None:
    sapool.save(tiny(), path)
    whole = path.read_bytes()
    for length in (0, 1, 3, 100, 5000, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        refuse(path, "damaged")


def test_files_of_other_formats(path: Path) -> None:
    rng = random.Random(0)
    contents = [rng.randbytes(rng.randrange(1, 200)) for _ in range(200)]
    contents += [b"rubbish\n", b"# A heading\n\nAnd text.\n", b'{"format": "sapool-plan-1"}', b"\x89PNG\r\n\x1a\n"]
    contents += [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz.(){}\n 0123456789", k=40)) for _ in range(100)]
    for content in contents:
        path.write_bytes(content)
        message = refuse(path)
        assert "\n" not in message


def test_files_of_other_formats_are_not_accused(path: Path) -> None:
    for content in (b"rubbish\n", b"a text about models\n", b"PNG and more\n", bytes(range(64))):
        path.write_bytes(content)
        assert "run code" not in refuse(path), content


def test_a_pickled_model_is_not_loaded(path: Path) -> None:
    torch.save(tiny(), path)
    refuse(path, "isn't loaded: it holds objects that could run code")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ([1, 2], "holds a list"),
        (torch.zeros(2), "holds a Tensor"),
        ({}, "isn't a sapool model"),
        ({1: 2}, "isn't a sapool model"),
        ({"conv1.weight": torch.zeros(2)}, "to use it as weights"),
        ({"format": "sapool-model-9"}, "isn't a sapool model"),
        ({"format": "sapool-model-1"}, "is damaged"),
    ],
    ids=repr,
)
def test_files_that_hold_something_else(path: Path, content: object, fragment: str) -> None:
    torch.save(content, path)
    refuse(path, fragment)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "resnet18-lip-1222"},
        {"architecture": "resnet19-lip-2222"},
        {"architecture": 5},
        {"plan": 3},
        {"plan": "{}"},
        {"plan": None},
        {"format": "sapool-model-1"},
        {"format": "sapool-model-1", "options": 3},
        {"format": "sapool-model-1", "options": {"unknown": 1}},
        {"format": "sapool-model-1", "options": {"num_classes": "2"}},
        {"state_dict": None},
        {"state_dict": {}},
        {"state_dict": {"conv1.weight": torch.zeros(64, 3, 3, 3)}},
        {"state_dict": {"conv1.weight": "text"}},
    ],
    ids=str,
)
def test_files_whose_parts_do_not_belong_together(path: Path, change: dict[str, Any]) -> None:
    sapool.save(tiny(), path)
    torch.save({**torch.load(path), **change}, path)
    message = refuse(path, "is damaged")
    assert "\n" not in message


def test_what_is_missing_is_named(path: Path) -> None:
    sapool.save(tiny(), path)
    content = torch.load(path)
    del content["state_dict"]["layer1.0.conv2.weight"]
    torch.save(content, path)
    refuse(path, "is damaged", "layer1.0.conv2.weight")
    sapool.save(tiny(), path)
    content = torch.load(path)
    content["state_dict"]["layer1.0.conv2.weight"] = torch.zeros(1)
    torch.save(content, path)
    refuse(path, "is damaged", "layer1.0.conv2.weight")
