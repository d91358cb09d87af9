"""Checkpoints of other hands to a number on a test set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import sapool
from sapool.classify.data.module import DataModule
from sapool.classify.measure import _logged, _usual_size, measure
from sapool.errors import InputError, WeightsError
from sapool.recipes.reading import read_recipe
from tests.reference import RECORDS, image, weights

TEXT = "resnet18-lip-1222"
RECORD = min((r for r in RECORDS if "nlp" in r["architecture"] and "logits" in r), key=lambda r: r["input"][-1])


def authors_file(path: Path, **more: object) -> dict[str, Tensor]:
    """A file as the authors' code writes it, with made-up weights."""
    state = weights(RECORD["state_dict"])
    content = {"accuracy": 0.75, "epoch": 299, "optimizer": {}, **more}
    torch.save({**content, "state_dict": {f"module.net.{key}": value for key, value in state.items()}}, path)
    return state


def test_an_authors_checkpoint_gives_the_published_logits_and_an_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    state = authors_file(path)
    text, size = RECORD["architecture"], 32
    found = measure(text, "digits", weights=path, image_size=size, batch_size=60)
    assert (found.dialect, found.image_size, found.images) == ("paper", size, 360)
    assert found.told == {"accuracy": 0.75, "epoch": 299.0}
    # The same network by hand: the same logits to the bit, and so the same accuracy.
    model = sapool.compile(text, num_classes=10, dialect="paper", image_size=size)
    model.load_state_dict(sapool.convert_reference_state_dict(state, text))
    whole = sapool.compile(text, num_classes=10, dialect="paper", image_size=size, weights=path)
    model.eval(), whole.eval()
    recipe = read_recipe("digits", [f"data.image_size={size}", "select=test", "train.batch_size=60"])
    right, seen = 0, torch.zeros(10, dtype=torch.int64)
    with torch.inference_mode():
        logits, expected = whole(image(RECORD)), torch.tensor(RECORD["logits"])
        assert torch.equal(logits, model(image(RECORD)))
        assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()
        for x, labels in DataModule(recipe).test_dataloader():
            right += int((model(x).argmax(1) == labels).sum())
            seen += labels.bincount(minlength=10)
    assert found.top1 == pytest.approx(right / 360)
    assert found.top1 <= found.top5 <= 1
    mean = sum(value * count for value, count in zip(found.per_class.values(), seen.tolist(), strict=True)) / 360
    assert mean == pytest.approx(found.top1, abs=1e-5)


def test_a_model_file_is_measured_as_it_is(tmp_path: Path) -> None:
    text = "mobilenet-skip-1222121"
    model = sapool.compile(text, num_classes=10, image_size=32)
    sapool.save(model, tmp_path / "model.pt")
    found = measure(tmp_path / "model.pt", "digits")
    assert (found.architecture, found.dialect, found.image_size, found.told) == (text, "torchvision", 32, {})
    assert found.as_data()["images"] == 360
    with pytest.raises(InputError, match="has its own weights"):
        measure(tmp_path / "model.pt", "digits", weights=tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("layer3.0.conv1.weight"), "layer3.0.conv1.weight is missing"),
        (lambda state: state.update(other=torch.zeros(2)), r"other \(no such key\)"),
        (lambda state: state.update({"fc.weight": torch.zeros(7, 512)}), "7x512 where the model has 10x512"),
    ],
)
def test_weights_that_are_not_whole_are_refused(change: object, said: str, tmp_path: Path) -> None:
    state = dict(sapool.compile(TEXT, num_classes=10, image_size=32).state_dict())
    change(state)  # type: ignore[operator]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=said):
        measure(TEXT, "digits", weights=tmp_path / "weights.pt")


def test_the_published_mixp_is_pointed_to_by_its_name_here(tmp_path: Path) -> None:
    record = next(r for r in RECORDS if "dfmixp" in r["architecture"])
    state = weights(record["state_dict"])
    torch.save({f"module.net.{key}": value for key, value in state.items()}, tmp_path / "theirs.pth")
    text = record["architecture"]
    with pytest.raises(WeightsError, match=f"try {text}"):
        measure(text.replace("dfmixp", "mixp"), "digits", weights=tmp_path / "theirs.pth")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TEXT, "digits"), "which weights"),
        (("resnet18-lipp-1222", "digits"), "nearest valid spelling"),
        ((TEXT, "digit"), "there is no data set 'digit'|Did you mean 'digits'"),
    ],
)
def test_what_cannot_be_measured(arguments: tuple[str, str], said: str, tmp_path: Path) -> None:
    model = sapool.compile(TEXT, num_classes=10, image_size=32)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    given = {} if said == "which weights" else {"weights": tmp_path / "weights.pt"}
    with pytest.raises(InputError, match=said):
        measure(*arguments, **given)


def test_sizes_are_those_of_the_authors_runs() -> None:
    assert _usual_size("prepool-maxp-4-resnet18-skip-1222", "stl10") == 96
    assert _usual_size("mobilenet-lip-2222121", "stl10") == 128
    assert _usual_size("resnet18-nlp-1222", "stl10") == 128
    assert _usual_size("resnet18-nlp-1222", "digits") == 32
    assert _logged("mobilenet-lip-2222121", "stl10", 128) == 0.6823
    assert _logged("mobilenet-lip-2222121", "stl10", 64) is None
