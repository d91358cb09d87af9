"""What TensorFlow Lite Micro will hold, before anything is converted: heads that its recorder was seen to report."""

from __future__ import annotations

import pytest
import torch

import sapool
from sapool.cost.micro import micro_memory
from sapool.cost.micro_estimates import CORE, KERNEL
from sapool.errors import InputError


@pytest.mark.parametrize(
    ("text", "size", "head", "tail", "file"),
    [
        ("resnet18-lip-1222", 32, 24_576, 63_968, None),
        pytest.param("resnet18-skip-1222", 96, 184_320, 46_096, None, marks=pytest.mark.slow),
        pytest.param("resnet18-gaussian_pool-1222", 32, 26_624, 68_432, None, marks=pytest.mark.slow),
        pytest.param("resnet18-nlp-1222", 64, 233_472, 369_328, 13_617_952, marks=pytest.mark.slow),
        pytest.param(
            "mobilenet_v2-nlp_headfix2_nowin_reduced-1222121", 32, 49_152, 210_288, 3_031_984, marks=pytest.mark.slow
        ),
    ],
)
def test_it_is_what_the_runtime_records(text: str, size: int, head: int, tail: int, file: int | None) -> None:
    with torch.device("meta"):
        model = sapool.compile(text, num_classes=10, image_size=size)
    found = micro_memory(model)
    assert found.head == head
    assert max(held for _, _, held in found.steps) <= head
    assert found.tail == pytest.approx(tail, rel=0.15)
    assert found.sram == found.head + found.tail
    if file is not None:
        kinds = {kind for _, kind, _ in found.steps}
        assert found.flash - CORE - KERNEL * len(kinds) == pytest.approx(file, rel=0.02)


def test_what_cannot_be_had_is_refused() -> None:
    with torch.device("meta"):
        model = sapool.compile("resnet18-dfmnlp-1222", num_classes=10, image_size=32)
    with pytest.raises(InputError, match=r"dfmnlp can't be written as .tflite: it samples its map"):
        micro_memory(model)


def test_a_budget_puts_it_in_bands() -> None:
    with torch.device("meta"):
        model = sapool.compile("resnet18-skip-1222", num_classes=10, image_size=32)
    plain = micro_memory(model)
    found = micro_memory(model, streamed=True, budget=plain.sram - 1)
    assert plain.bands == ""
    assert "bands of rows" in found.bands
    assert found.sram < plain.sram
    assert found.head < plain.head
    assert found.tail > plain.tail
    assert found.flash > plain.flash
    assert max(held for _, _, held in found.steps) <= found.head


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "options", "head", "tail"),
    [
        ("mobilenet_v2-skip-1222121", {}, 94_464, 191_008),
        (
            "mobilenet_v2-nlp_headfix2_nowin_reduced-1222121",
            {"in_chans": 1, "num_classes": 10},
            112_896,
            262_464,
        ),
    ],
)
def test_of_a_streamed_network_it_is_what_the_runtime_records(
    text: str, options: dict[str, int], head: int, tail: int
) -> None:
    with torch.device("meta"):
        model = sapool.compile(text, image_size=96, **options)
    found = micro_memory(model, streamed=True)
    assert found.head == head
    assert found.tail == pytest.approx(tail, rel=0.15)
