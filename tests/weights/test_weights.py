"""Weights of other hands: what a compiled model takes from them, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

import sapool
from sapool.errors import WeightsError
from tests.reference import RECORDS, records_in_tiers, weights

FETCH = "torchvision.models._api.WeightsEnum.get_state_dict"

StateDict = dict[str, Tensor]


def published(builder: str, num_classes: int = 10) -> StateDict:
    """A state dict of torchvision's naming and shapes, with random numbers, statistics included."""
    module = models.get_model(builder, num_classes=num_classes)
    state: StateDict = module.state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return state


def equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


# Files


@pytest.mark.parametrize(
    ("text", "builder", "new"),
    [
        ("resnet18-skip-1222", "resnet18", []),
        ("resnet18-nlp-1222", "resnet18", ["pools.stage2", "pools.stage3", "pools.stage4"]),
        ("resnet18-skip-2212", "resnet18", ["layer1.0.downsample"]),
        ("prepool-lip-4-resnet18-gaussian_pool-2111", "resnet18", ["pools.prepool", "pools.stage1"]),
        ("resnet18_v2-maxp-2222", "resnet18", []),
        ("mobilenet-lip-1222121", "mobilenet_v2", [f"pools.stage{number}" for number in (2, 3, 4, 6)]),
        ("mobilenet_v2-attnpool-1211111", "mobilenet_v2", ["pools.stage2"]),
    ],
)
def test_torchvisions_state_dict(path: Path, text: str, builder: str, new: list[str]) -> None:
    state = published(builder)
    torch.save(state, path)
    model = sapool.compile(text, num_classes=10, weights=path)
    assert model.transfer is not None
    assert model.transfer.transferred == tuple(state)
    assert model.transfer.dropped == ()
    # What is new is exactly what was inserted.
    assert list(model.transfer.new) == [key for key in model.state_dict() if key not in state]
    assert {prefix for prefix in new for key in model.transfer.new if key.startswith(f"{prefix}.")} == set(new)
    assert all(key.startswith(tuple(f"{prefix}." for prefix in new)) for key in model.transfer.new)
    assert equal(model.state_dict(), state)


def test_without_weights_nothing_is_transferred() -> None:
    assert sapool.compile("resnet18-skip-1222").transfer is None


@pytest.mark.parametrize("wrapping", ["state_dict", "model"])
def test_a_trainers_checkpoint(path: Path, wrapping: str) -> None:
    state = published("resnet18")
    torch.save({"epoch": 3, wrapping: state, "optimizer": {"lr": 0.1}}, path)
    model = sapool.compile("resnet18-lip-1222", num_classes=10, weights=str(path))
    assert model.transfer is not None
    assert model.transfer.transferred == tuple(state)
    assert equal(model.state_dict(), state)


@pytest.mark.parametrize("builder", ["resnet18", "mobilenet_v2"])
def test_a_state_dict_saved_from_data_parallel(path: Path, builder: str) -> None:
    state = published(builder)
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    text = {"resnet18": "resnet18-lip-1222", "mobilenet_v2": "mobilenet-lip-1222121"}[builder]
    model = sapool.compile(text, num_classes=10, weights=path)
    assert model.transfer is not None
    assert model.transfer.dropped == ()
    assert equal(model.state_dict(), state)


def test_another_number_of_classes(path: Path) -> None:
    state = published("resnet18", num_classes=10)
    torch.save(state, path)
    model = sapool.compile("resnet18-skip-1222", num_classes=7, weights=path)
    assert model.transfer is not None
    dropped = (("fc.weight", "10x512 where the model has 7x512"), ("fc.bias", "10 where the model has 7"))
    assert model.transfer.dropped == dropped
    assert model.transfer.new == ("fc.weight", "fc.bias")
    assert str(model.transfer) == (
        "120 tensors transferred, 2 new, 2 dropped; new: fc.*; "
        "dropped: fc.weight (10x512 where the model has 7x512), fc.bias (10 where the model has 7)"
    )
    del state["fc.weight"], state["fc.bias"]
    assert equal(model.state_dict(), state)
    assert model.state_dict()["fc.weight"].shape == (7, 512)


@pytest.mark.parametrize(("given", "text"), [("resnet34", "resnet18-lip-1222"), ("resnet50", "resnet18-skip-1222")])
def test_weights_of_another_network_are_recognized(given: str, text: str) -> None:
    model = sapool.compile(text, weights=published(given))
    assert model.transfer is not None
    assert model.transfer.other == given
    told = str(model.transfer)
    assert told.startswith(f"these are the weights of {given}; ")
    assert len(told) < 600
    if given == "resnet34":
        assert "layer1.2.* (12 tensors, no such keys)" in told
        assert "and 5 more" in told


def test_weights_that_fit_nowhere_are_recognized_too() -> None:
    with pytest.raises(WeightsError, match="they are those of resnet18, and this is mobilenet; its keys look like"):
        sapool.compile("mobilenet-skip-1222121", weights=published("resnet18"))


def test_own_weights_and_unknown_ones_are_not_called_anothers() -> None:
    state = published("resnet18")
    for key in [key for key in state if key.startswith("layer4")]:
        state[f"mine.{key}"] = state.pop(key)
    model = sapool.compile("resnet18-skip-1222", weights=state)
    assert model.transfer is not None
    assert model.transfer.other is None
    assert "mine.layer4.* (30 tensors, no such keys)" in str(model.transfer)


def test_features_need_no_classifier(path: Path) -> None:
    torch.save(published("resnet18"), path)
    model = sapool.compile("resnet18-lip-1222", features_only=True, weights=path)
    assert model.transfer is not None
    assert model.transfer.dropped == (("fc.weight", "no such key"), ("fc.bias", "no such key"))
    assert all(key.startswith("pools.") for key in model.transfer.new)


DYNAMIC = [("dyresnet18-skip-1222", "resnet18"), ("dymobilenet-skip-1222121", "mobilenet_v2")]


@pytest.mark.parametrize(("text", "builder"), DYNAMIC)
def test_plain_weights_fill_every_dynamic_kernel(path: Path, text: str, builder: str) -> None:
    state = published(builder)
    torch.save(state, path)
    model = sapool.compile(text, num_classes=10, weights=path).eval()
    assert model.transfer is not None
    assert model.transfer.transferred == tuple(state)
    assert {key.split(".attention.")[-1] for key in model.transfer.new} == {"fc1.weight", "fc2.weight", "fc2.bias"}
    ours = model.state_dict()
    convolutions = [key for key, value in state.items() if value.dim() == 4]
    for key in convolutions:
        assert ours[key].shape == (4, *state[key].shape)
        assert all(torch.equal(kernel, state[key]) for kernel in ours[key])
    assert equal(ours, {key: value for key, value in state.items() if key not in convolutions})
    # Four equal kernels, however they are mixed, are the plain one.
    plain = models.get_model(builder, num_classes=10).eval()
    plain.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        y, expected = model(x), plain(x)
    assert (y - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_models_own_file(path: Path) -> None:
    model = sapool.compile("dyresnet18-nlp-2222", num_classes=10)
    sapool.save(model, path)
    again = sapool.compile("dyresnet18-nlp-2222", num_classes=10, weights=path)
    assert again.transfer is not None
    assert again.transfer.transferred == tuple(model.state_dict())
    assert (again.transfer.new, again.transfer.dropped) == ((), ())
    assert equal(again.state_dict(), model.state_dict())


def test_a_models_own_weights_saved_from_data_parallel(path: Path) -> None:
    model = sapool.compile("resnet18-nlp-1222", num_classes=10)
    torch.save(nn.DataParallel(model).state_dict(), path)
    again = sapool.compile("resnet18-nlp-1222", num_classes=10, weights=path)
    assert again.transfer is not None
    assert again.transfer.new == ()
    assert equal(again.state_dict(), model.state_dict())


def test_weights_of_half_precision_become_the_models(path: Path) -> None:
    state = {key: value.half() if value.is_floating_point() else value for key, value in published("resnet18").items()}
    torch.save(state, path)
    model = sapool.compile("resnet18-skip-1222", num_classes=10, weights=path)
    assert model.state_dict()["conv1.weight"].dtype == torch.float32
    assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"].float())


@cache
def authors(text: str) -> StateDict:
    """A state dict of the authors' naming, with the figures' numbers."""
    record = next(record for record in RECORDS if record["architecture"] == text)
    return weights(record["state_dict"])


def check_authors(model: sapool.CompiledModel) -> None:
    text = str(model.architecture)
    assert model.transfer is not None
    assert sorted(model.transfer.transferred) == sorted(model.state_dict())
    assert (model.transfer.new, model.transfer.dropped) == ((), ())
    assert equal(model.state_dict(), sapool.convert_reference_state_dict(authors(text), text))


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("resnet18-nlp-1222", "module.net."),
        ("resnet18-nlp-1222", ""),
        ("mobilenet-nlp_headfix2-1222121", "module.net."),
        ("mobilenet_v2-gaussian_pool-4222121", "net."),
        ("prepool-dfmixp-4-resnet18-skip-1222", ""),
        ("dymobilenet-skip-1222121", "module."),
        ("dymobilenet-skip-1222121", ""),
    ],
)
def test_the_authors_checkpoint(path: Path, text: str, prefix: str) -> None:
    torch.save({prefix + key: value for key, value in authors(text).items()}, path)
    check_authors(sapool.compile(text, num_classes=10, dialect="paper", weights=path))


def test_the_authors_checkpoint_in_torchvisions_dialect(path: Path) -> None:
    text = "mobilenet_v2-gaussian_pool-4222121"
    torch.save({"state_dict": authors(text)}, path)
    check_authors(sapool.compile(text, num_classes=10, weights=path))


def test_nothing_fits(path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(3), "encoder.bias": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"none of the 2 tensors fits .*; its keys look like 'conv1\.weight'"):
        sapool.compile("resnet18-skip-1222", weights=path)


@pytest.mark.parametrize(
    "content", [{}, {"state_dict": {}}, {"epoch": 3}, {"model": {"conv1.weight": "text"}}], ids=str
)
def test_no_state_dict(path: Path, content: dict[str, Any]) -> None:
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"weights\.pt holds no state dict: expected a mapping of names to tensors"):
        sapool.compile("resnet18-skip-1222", weights=path)


def test_no_such_file(path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no such file: .*weights\.pt"):
        sapool.compile("resnet18-skip-1222", weights=path)


# Published weights


@dataclass
class Hub:
    """What stands in for torchvision's download: random tensors of the real shapes, and what was asked for."""

    state: StateDict
    asked: list[WeightsEnum]
    options: list[dict[str, Any]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Hub]:
    def stand_in(builder: str) -> Hub:
        hub = Hub(published(builder, num_classes=1000), [], [])

        def fetch(entry: WeightsEnum, **options: Any) -> StateDict:
            hub.asked.append(entry)
            hub.options.append(options)
            return hub.state

        monkeypatch.setattr(FETCH, fetch)
        monkeypatch.setattr("sapool.catalogue.hubs.silence", lambda _: None)
        return hub

    return stand_in


@pytest.mark.parametrize(
    ("text", "builder", "entry"),
    [
        ("resnet18-nlp-1222", "resnet18", models.ResNet18_Weights.DEFAULT),
        ("resnet50-lip-2222", "resnet50", models.ResNet50_Weights.DEFAULT),
        ("mobilenet-nlp-1222121", "mobilenet_v2", models.MobileNet_V2_Weights.DEFAULT),
        ("dymobilenet_v2-lip-1222121", "mobilenet_v2", models.MobileNet_V2_Weights.DEFAULT),
    ],
)
def test_published_weights(hub: Callable[[str], Hub], text: str, builder: str, entry: WeightsEnum) -> None:
    stand_in = hub(builder)
    model = sapool.compile(text, weights="DEFAULT")
    assert stand_in.asked == [entry]
    assert stand_in.options[0]["check_hash"] is True
    assert model.transfer is not None
    assert model.transfer.transferred == tuple(stand_in.state)
    assert model.transfer.dropped == ()
    assert all(key.startswith("pools.") or ".attention." in key for key in model.transfer.new)
    assert model.transfer.new != ()
    assert equal(model.state_dict(), {key: value for key, value in stand_in.state.items() if value.dim() != 4})


def test_published_weights_for_other_classes(hub: Callable[[str], Hub]) -> None:
    hub("resnet18")
    model = sapool.compile("resnet18-skip-1222", num_classes=10, weights="DEFAULT")
    assert model.transfer is not None
    assert [key for key, _ in model.transfer.dropped] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route to host"),
        TimeoutError("timed out"),
        # What torch.hub raises of a file that arrived damaged.
        RuntimeError('invalid hash value (expected "f37072fd", got "0a1b2c3d")'),
    ],
    ids=["unreachable", "slow", "damaged"],
)
def test_published_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fetch(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(FETCH, fetch)
    monkeypatch.setattr("sapool.catalogue.hubs.silence", lambda _: None)
    with pytest.raises(WeightsError) as caught:
        sapool.compile("resnet18-nlp-1222", weights="DEFAULT")
    message = str(caught.value)
    assert models.ResNet18_Weights.DEFAULT.url in message
    assert str(error) in message
    assert "give its path as weights" in message


# The authors' names


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("record", records_in_tiers())
def test_published_names_map_one_to_one(record: dict[str, Any]) -> None:
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in record["state_dict"].items()}
        architecture = sapool.parse(record["architecture"])
        module = sapool.compile(architecture, num_classes=record["num_classes"], dialect="paper")
    converted = sapool.convert_reference_state_dict(state, record["architecture"])
    assert shapes(converted) == shapes(module.state_dict())
    # Tensors are handed on as they are, each once.
    assert sorted(map(id, converted.values())) == sorted(map(id, state.values()))


def some(text: str) -> StateDict:
    """An authors' state dict without numbers."""
    record = next(record for record in RECORDS if record["architecture"] == text)
    return {key: torch.empty(shape, device="meta") for key, shape in record["state_dict"].items()}


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("resnet18_v2-lip-1222", "module.net."),
        ("mobilenet-lip-2222121", "module.net."),
        ("mobilenet-lip-2222121", "net."),
        ("mobilenet-lip-2222121", "module."),
        ("mobilenet-lip-2222121", "net.module."),
    ],
)
def test_prefixes(text: str, prefix: str) -> None:
    state = some(text)
    bare = sapool.convert_reference_state_dict(state, text)
    prefixed = sapool.convert_reference_state_dict({prefix + key: value for key, value in state.items()}, text)
    assert list(prefixed) == list(bare)
    assert all(prefixed[key] is bare[key] for key in bare)


def test_an_architecture_may_be_parsed() -> None:
    text = "resnet18-lip-1222"
    converted = sapool.convert_reference_state_dict(some(text), sapool.parse(text))
    assert list(converted) == list(sapool.convert_reference_state_dict(some(text), text))


def test_a_part_of_a_state_dict() -> None:
    tensor = torch.zeros(64)
    state = {"net.layer2.pool.logit.pool_weight.logit.0.bias": tensor}
    converted = sapool.convert_reference_state_dict(state, "resnet18-lip-1222")
    assert list(converted) == ["pools.stage2.logit.0.bias"]
    assert converted["pools.stage2.logit.0.bias"] is tensor


@pytest.mark.parametrize(
    ("key", "fragments"),
    [
        ("module.net.layer9.0.conv1.weight", ["'module.net.layer9.0.conv1.weight' fits nowhere in resnet18-lip-1222"]),
        ("net.layer2.0.conv1.wieght", ["'net.layer2.0.conv1.wieght' fits", "Did you mean 'layer2.0.conv1.weight'?"]),
        ("optimizer", ["'optimizer' fits nowhere"]),
    ],
)
def test_a_key_that_fits_nowhere(key: str, fragments: list[str]) -> None:
    with pytest.raises(WeightsError) as caught:
        sapool.convert_reference_state_dict({**some("resnet18-lip-1222"), key: torch.zeros(1)}, "resnet18-lip-1222")
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("twice", ["conv1.weight", "layer3.pool.logit.pool_weight.logit.0.weight"])
def test_a_key_that_stands_twice(twice: str) -> None:
    state = some("resnet18-lip-1222")
    with pytest.raises(WeightsError, match=f"'module.net.{twice}' stands twice"):
        sapool.convert_reference_state_dict({**state, f"module.net.{twice}": torch.zeros(1)}, "resnet18-lip-1222")


def test_published_mixp_is_our_dfmixp() -> None:
    state = some("prepool-dfmixp-4-resnet18-skip-1222")
    with pytest.raises(WeightsError, match="The published 'mixp' is deformable: it is 'dfmixp' here"):
        sapool.convert_reference_state_dict(state, "prepool-mixp-4-resnet18-skip-1222")
