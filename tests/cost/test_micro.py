"""What TensorFlow Lite Micro will hold, before anything is converted: heads that its recorder was seen to report."""

from __future__ import annotations

import pytest

import sapool
from sapool.cost.micro import micro_memory


@pytest.mark.parametrize(
    ("text", "size", "head"),
    [
        ("resnet18-lip-1222", 32, 24_576),
        pytest.param("resnet18-skip-1222", 96, 184_320, marks=pytest.mark.slow),
        pytest.param("resnet18-gaussian_pool-1222", 32, 26_624, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2-nlp_headfix2_nowin_reduced-1222121", 32, 49_152, marks=pytest.mark.slow),
    ],
)
def test_the_head_is_what_the_runtime_records(text: str, size: int, head: int) -> None:
    model = sapool.compile(text, num_classes=10, image_size=size)
    found = micro_memory(model)
    assert found.head == head
    assert max(held for _, _, held in found.steps) <= head
