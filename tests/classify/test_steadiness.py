"""How steady a classifier is: each measure on models whose answer is known, and a run through the command line."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import sapool
from sapool.classify.steadiness import (
    CORRUPTIONS,
    SEVERITIES,
    accuracy_and_calibration,
    corruption,
    shift_consistency,
)
from sapool.errors import InputError
from tests.commands import sapoolc


class Corner(nn.Module):
    """Two classes: whether the middle pixel is above zero; or one class always."""

    def __init__(self, constant: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.0 if constant else 4.0))

    def forward(self, x: Tensor) -> Tensor:
        middle = x[:, 0, x.shape[2] // 2, x.shape[3] // 2] * self.scale + 1 - self.scale / 4
        return torch.stack((torch.zeros_like(middle), middle), 1)


def batches(images: Tensor, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    labels = torch.arange(len(images)) % 2
    return list(zip(images.split(size), labels.split(size), strict=True))


def test_what_never_changes_its_mind_is_consistent() -> None:
    x = torch.randn(20, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    assert shift_consistency(Corner(constant=True), batches(x), most=3) == 1
    # One random pixel is another's class half of the time, but for crops at the same place: 1 in 49.
    found = shift_consistency(Corner(), batches(torch.randn(2000, 1, 12, 12), 500), most=3)
    assert 0.45 < found < 0.58
    assert shift_consistency(Corner(), batches(x), most=3) == shift_consistency(Corner(), batches(x, 20), most=3)


@pytest.mark.parametrize("most", [0, 12, -1])
def test_shifts_that_no_image_has_are_refused(most: int) -> None:
    with pytest.raises(InputError, match="shifts: expected a number from 1 to 11"):
        shift_consistency(Corner(), batches(torch.zeros(2, 1, 12, 12)), most=most)


def test_no_images_are_refused() -> None:
    with pytest.raises(InputError, match="no images"):
        shift_consistency(Corner(), [])


class Sure(nn.Module):
    """Class 0 with a given probability, whatever the image."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor([probability, 1 - probability]).log())

    def forward(self, x: Tensor) -> Tensor:
        return self.logit.expand(len(x), 2)


def test_calibration_error_is_how_far_confidence_is_from_accuracy() -> None:
    """Half of the labels are class 0."""
    images = torch.zeros(40, 1, 4, 4)
    for probability in (0.55, 0.8, 0.97):
        accuracy, error = accuracy_and_calibration(Sure(probability), batches(images), 2)
        assert accuracy == pytest.approx(0.5)
        assert error == pytest.approx(probability - 0.5, abs=1e-5)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_corruptions_keep_an_images_form_and_worsen_with_severity(name: str, channels: int) -> None:
    ramp = torch.linspace(60, 140, 48).round().to(torch.uint8)
    noise = torch.randint(0, 40, (channels, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    image = ramp + noise
    far = []
    for severity in SEVERITIES:
        torch.manual_seed(0)
        worse = corruption(name, severity)(image)
        assert (worse.shape, worse.dtype) == (image.shape, image.dtype)
        far.append(float((worse.float() - image.float()).abs().mean()))
    assert far[-1] > far[0] > 0


def test_unknown_corruptions_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"there is no corruption 'pixelat'.*pixelate"):
        corruption("pixelat", 1)
    with pytest.raises(InputError, match="severity: expected a number from 1 to 5"):
        corruption("jpeg", 6)


@pytest.mark.slow
def test_a_run_through_the_command_line(classifier_run) -> None:
    found = json.loads(sapoolc("evaluate", classifier_run, "--shifts", "2", "--corruptions", "contrast", "--json")[0])
    steady, written = found["steadiness"], json.loads((classifier_run / "steadiness.json").read_text())
    assert written.pop("digest")
    assert steady == written
    assert steady["top1"] == pytest.approx(found["top1"], abs=1e-6)
    assert 0 <= steady["shift_consistency"] <= 1
    assert {name: list(levels) for name, levels in steady["corruptions"].items()} == {
        "contrast": ["1", "2", "3", "4", "5"]
    }
    again = sapool.open_run(classifier_run).steadiness(shifts=2)
    assert again.shift_consistency == steady["shift_consistency"], "drawn from a seed"
    assert "moved by up to 2 pixels" in str(again.report())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shifts", "999"), "shifts: expected a number from 1 to"),
        (("--shifts", "0"), "shifts: expected a number from 1 to"),
        (("--corruptions", "fog"), "there is no corruption 'fog'"),
        (("--data", "digits", "--shifts"), "leave out --data"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...], said: str, classifier_run) -> None:
    before = sorted(classifier_run.iterdir())
    _, errors = sapoolc("evaluate", classifier_run, *words, code=2)
    assert said in errors
    assert sorted(classifier_run.iterdir()) == before
