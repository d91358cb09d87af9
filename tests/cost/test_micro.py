"""What TensorFlow Lite Micro will hold, before anything is converted: heads that its recorder was seen to report."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import sapool
from sapool.cost.bands.script import Script
from sapool.cost.micro import micro_memory
from sapool.cost.micro_estimates import CORE, KERNEL
from sapool.cost.micro_operators import operators_of
from sapool.errors import InputError


@pytest.mark.parametrize(
    ("text", "size", "head", "tail", "file"),
    [
        ("resnet18-lip-1222", 32, 24_576, 63_968, None),
        ("timm:lcnet_050-maxblur-122212", 32, 8_256, 53_472, None),
        pytest.param("resnet18-softpool-1222", 32, 24_576, 50_352, None, marks=pytest.mark.slow),
        pytest.param("resnet18-rnnpool-1222", 32, 37_120, None, None, marks=pytest.mark.slow),
        pytest.param("resnet18-skip-1222", 96, 184_320, 46_096, None, marks=pytest.mark.slow),
        pytest.param("resnet18-gaussian_pool-1222", 32, 26_624, 68_432, None, marks=pytest.mark.slow),
        pytest.param("resnet18-nlp-1222", 64, 233_472, 369_328, 13_617_952, marks=pytest.mark.slow),
        pytest.param(
            "mobilenet_v2-nlp_headfix2_nowin_reduced-1222121", 32, 49_152, 210_288, 3_031_984, marks=pytest.mark.slow
        ),
    ],
)
def test_it_is_what_the_runtime_records(text: str, size: int, head: int, tail: int | None, file: int | None) -> None:
    with torch.device("meta"):
        model = sapool.compile(text, num_classes=10, image_size=size)
    found = micro_memory(model)
    assert found.head == head
    assert max(held for _, _, held in found.steps) <= head
    assert tail is None or found.tail == pytest.approx(tail, rel=0.15)
    assert found.sram == found.head + found.tail
    if file is not None:
        kinds = {kind for _, kind, _ in found.steps}
        assert found.flash - CORE - KERNEL * len(kinds) == pytest.approx(file, rel=0.02)


class Split(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return torch.cat((second, F.avg_pool2d(first, 3, 1, 1)), 1)


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (2 * x).exp() + 1


@pytest.mark.parametrize(
    ("module", "width", "held"),
    [
        # A map of 8x8 in one of 10x10, in steps of 16 bytes, which the runtime's own padding isn't.
        (nn.MaxPool2d(3, 2, 1), 1, [("constant_pad_nd", 128 + 208), ("max_pool2d", 208 + 32)]),
        (nn.MaxPool2d(2), 1, [("max_pool2d", 128 + 32)]),
        (
            Split(),
            1,
            [
                *(("getitem", 128 + 64), ("getitem", 128 + 128)),
                *(("constant_pad_nd", 64 + 64 + 112), ("avg_pool2d", 64 + 112 + 64), ("cat", 64 + 64 + 128)),
            ],
        ),
        (nn.SiLU(), 1, [("sigmoid", 128 + 128), ("mul", 3 * 128)]),
        (nn.LeakyReLU(), 1, [("dequantize", 640), ("leaky_relu", 1024), ("quantize", 640)]),
        # Mirrored, with four numbers for each of two maps.
        (nn.ReflectionPad2d((0, 2, 1, 1)), 4, [("pad", 4 * (128 + 200) + 32)]),
        (
            Exponential(),
            1,
            [("mul", 256), ("dequantize", 640), ("exp", 1024), ("quantize", 640), ("add", 256)],
        ),
        (Exponential(), 4, [("mul", 1024), ("exp", 1024), ("add", 1024)]),
    ],
)
def test_operators_that_the_file_has_besides_are_counted(
    module: nn.Module, width: int, held: list[tuple[str, int]]
) -> None:
    net = operators_of(flat(module), width)
    script = Script.of(net, ())
    assert script is not None
    found = script.held(net.inputs, net.outputs)
    assert [(operator.kind, size) for operator, size in zip(net.operators, found, strict=True)] == held


def flat(module: nn.Module) -> fx.GraphModule:
    """For a map of (1, 2, 8, 8)."""
    exported = torch.export.export(module, (torch.zeros(1, 2, 8, 8),)).module(check_guards=False)
    return fx.GraphModule(exported, exported.graph)


def test_what_cannot_be_had_is_refused() -> None:
    with torch.device("meta"):
        model = sapool.compile("resnet18-dfmnlp-1222", num_classes=10, image_size=32)
    with pytest.raises(InputError, match=r"dfmnlp can't be written as .tflite: it samples its map"):
        micro_memory(model)
    with torch.device("meta"):
        model = sapool.compile("timm:convnext_atto-skip-1222", num_classes=10, image_size=32)
    with pytest.raises(InputError, match=r"TensorFlow Lite Micro has no operation for a GELU"):
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
