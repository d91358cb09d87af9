"""How parameters start: as distributions over seeds, against the published code's figures and against the builders'."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

import sapool
from sapool.catalogue.builders import build
from sapool.poolings.dynamic import DynamicConv2d
from sapool.weights.initialization import read_off

FIGURES = json.loads((Path(__file__).parents[1] / "data" / "init.json").read_text())
# The published 'mixp' is deformable, and its offsets and masks start otherwise than ours (semantics §3a, §5.8).
OURS = {"resnet18-mixp_reduced-1222": "resnet18-dfmixp_reduced-1222"}
SEEDS = 2
LOOKED_AT = 1 << 16  # of the values of a parameter, for each seed
SIGMAS = 5.0
LIKELY = 1e-6


@dataclass(frozen=True)
class Sample:
    """What is known of a parameter: moments, largest absolute value, and of how many values."""

    mean: float
    std: float
    largest: float
    count: int

    @classmethod
    def of(cls, values: Tensor) -> Sample:
        values = values.detach().double()
        return cls(
            float(values.mean()), float(values.std(correction=0)), float(values.abs().max()), int(values.numel())
        )


def compiled(text: str, seed: int, **options: object) -> sapool.CompiledModel:
    torch.manual_seed(seed)
    return sapool.compile(text, num_classes=10, image_size=64, **options)  # type: ignore[arg-type]


@cache
def ours(text: str, dialect: str) -> dict[str, Sample]:
    models = [dict(compiled(text, seed, dialect=dialect).named_parameters()) for seed in range(SEEDS)]
    return {key: Sample.of(torch.cat([model[key].flatten()[:LOOKED_AT] for model in models])) for key in models[0]}


def differences(one: Sample, other: Sample) -> list[str]:
    """In what two samples can't be of one distribution, which is constant, uniform or normal.

    The mean of n values has a deviation of σ/√n, their standard deviation one of σ·√((κ − 1)/4n), κ = 3 for the normal
    distribution and less for the uniform one. Of n normal values the expected number beyond m is 2n(1 − Φ(m/σ)), and
    of the largest that number is exponentially distributed; of n uniform ones it is n(1 − m/b).
    """
    if min(one.std, other.std) == 0:
        return [] if (one.mean, one.std) == pytest.approx((other.mean, other.std), abs=1e-6) else ["constant"]
    rounding = 2e-5
    sigma, share = max(one.std, other.std), 1 / one.count + 1 / other.count
    found = []
    if abs(one.mean - other.mean) > SIGMAS * sigma * math.sqrt(share) + rounding:
        found.append("mean")
    if abs(one.std - other.std) > SIGMAS * sigma * math.sqrt(share / 2) + rounding:
        found.append("std")
    # Where one is within what uniform values allow, and there are enough to tell, so must the other be.
    if min(one.count, other.count) >= 1000 and is_bounded(one) != is_bounded(other):
        found.append("shape")
    return found


def is_bounded(sample: Sample) -> bool:
    """Whether the largest value is too small for normal ones: at least as many were expected beyond it as can be."""
    beyond = 2 * sample.count * (1 - NormalDist().cdf((sample.largest - abs(sample.mean)) / sample.std))
    return beyond > -math.log(LIKELY)


def published(text: str) -> dict[str, Sample]:
    """The figures under our keys."""
    record = {key: torch.tensor(value, dtype=torch.float64) for key, value in FIGURES["records"][text].items()}
    translated = sapool.convert_reference_state_dict(record, OURS.get(text, text))
    seeds = FIGURES["seeds"]
    return {
        key: Sample(*value.tolist()[:3], count=int(value[3]) * seeds)
        for key, value in translated.items()
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }


@pytest.mark.parametrize(
    ("text", "dialect"),
    [(text, "paper") for text in FIGURES["records"]]
    + [(text, "torchvision") for text in ("mobilenet_v2-nlp_headfix2-1222121", "resnet18_v2-gaussian_pool-2222")],
)
def test_every_parameter_starts_as_published(text: str, dialect: str) -> None:
    figures, seen = published(text), ours(OURS.get(text, text), dialect)
    own = {key for key in seen if ".offset." in key or ".mask." in key}
    extra = {key for key in figures if key not in seen}  # a shortcut of the paper's dialect alone
    assert all(".downsample." in key for key in extra) if dialect == "torchvision" else not extra
    assert set(seen) <= set(figures) | own
    odd = {
        key: found
        for key, figure in figures.items()
        if key in seen and key not in own and (found := differences(seen[key], figure))
    }
    assert not odd
    assert all(seen[key].largest == 0 for key in own)


UNSEEN = [
    ("prepool-nlp_reduced-4-resnet18-nlp_headfix2_nowin_reduced0842-1222", "paper"),
    ("resnet50-lip-2222", "torchvision"),
    ("dyresnet18-nlp_headfix2-1222", "paper"),
    ("mobilenet-gaussian_pool-2222121", "torchvision"),
    ("mobilenet-attnpool-1222121", "paper"),
    ("mobilenet_v2-dfmixp_reduced-1222121", "torchvision"),
    ("dymobilenet_v2-nlp_headfix2_nowin_reduced-1222121", "paper"),
    ("prepool-mixp-4-mobilenet-nlpnobn1-1221111", "torchvision"),
    ("resnet18-skip-2212", "paper"),
]


def expected(module: nn.Module, name: str, value: Tensor, mobile: bool) -> tuple[float, float, bool] | None:
    """Mean, standard deviation and whether bounded, by the rule's own words; None where it says nothing."""
    if isinstance(module, nn.BatchNorm2d):
        return (1.0, 0.0, True) if name == "weight" else (0.0, 0.0, True)
    if isinstance(module, DynamicConv2d):
        return (0.0, math.sqrt(2 / value[0, 0].numel()), True) if name == "weight" else (0.0, 0.0, True)
    if isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        if name == "weight":
            return 0.0, math.sqrt(2 / (module.out_channels * value[0, 0].numel())), False
        return (0.0, 0.0, True) if mobile else (0.0, math.sqrt(1 / fan_in / 3), True)
    if isinstance(module, nn.Linear):
        if name == "weight":
            return (0.0, 0.01, False) if mobile else (0.0, math.sqrt(1 / module.in_features / 3), True)
        return (0.0, 0.0, True) if mobile else None
    if name == "in_proj_weight":
        return 0.0, math.sqrt(2 / sum(value.shape)), True
    if name in ("row", "column"):
        return 0.5, math.sqrt(1 / 12), True
    return (0.0, 0.0, True) if name == "in_proj_bias" else None


@pytest.mark.parametrize(("text", "dialect"), UNSEEN)
def test_other_strings_start_by_the_rule(text: str, dialect: str) -> None:
    model = compiled(text, seed=11, dialect=dialect)
    for path, module in model.named_modules():
        for name, value in module.named_parameters(recurse=False):
            zero = path.endswith((".offset", ".mask"))
            zero |= name == "bias" and path.endswith(("out_proj", "attention.fc2"))
            rule = (0.0, 0.0, True) if zero else expected(module, name, value, "mobilenet" in text)
            if rule is None:
                continue
            mean, std, bounded = rule
            sample = Sample.of(value)
            figure = Sample(mean, std, math.sqrt(3) * std + abs(mean) if bounded else math.inf, 10**9)
            assert not [d for d in differences(sample, figure) if d != "shape"], f"{path}.{name}"
            if std and sample.count >= 1000:
                assert is_bounded(sample) == bounded, f"{path}.{name}"


@pytest.mark.parametrize(
    ("backbone", "strides", "deviation", "bounded", "zero"),
    [
        ("efficientnet_b0", "1222121", lambda fan_in, fan_out: 2 / fan_out, False, True),
        ("densenet121", "1222", lambda fan_in, fan_out: 2 / fan_in, False, False),
        ("shufflenet_v2_x0_5", "222", lambda fan_in, fan_out: 1 / fan_in / 3, True, False),
        ("squeezenet1_0", "2221", lambda fan_in, fan_out: 2 / fan_in, True, True),
        ("convnext_tiny", "1222", lambda fan_in, fan_out: 0.02**2, False, True),
        ("inception_v3", "122", lambda fan_in, fan_out: 0.1**2, False, False),
    ],
)
def test_pools_start_as_the_convolutions_of_other_backbones_do(
    backbone: str, strides: str, deviation: object, bounded: bool, zero: bool
) -> None:
    size = 112 if backbone == "inception_v3" else 64
    torch.manual_seed(0)
    model = sapool.compile(f"{backbone}-lip-{strides}", num_classes=10, image_size=size)
    convs = [m for m in model.get_submodule("pools").modules() if isinstance(m, nn.Conv2d)]
    assert convs
    for conv in convs:
        std = math.sqrt(deviation(conv.in_channels, conv.out_channels))  # type: ignore[operator]
        sample = Sample.of(conv.weight)
        assert sample.std == pytest.approx(std, rel=SIGMAS / math.sqrt(2 * sample.count) + 2e-3)
        assert is_bounded(sample) == bounded
        assert conv.bias is not None
        assert (conv.bias.abs().max() == 0) == zero


def test_trained_convolutions_tell_no_way() -> None:
    network = build("resnet18", 10)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert read_off(convs) is not None
    with torch.no_grad():
        for number, conv in enumerate(convs):
            conv.weight.mul_(1 + 0.05 * number)
    assert read_off(convs) is None
    assert read_off([]) is None


def test_a_network_of_ones_own_keeps_its_weights() -> None:
    torch.manual_seed(0)
    network = build("resnet18", 10)
    model = sapool.compile("lip-1222", backbone=network, image_size=64)
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_the_identity_law_draws_what_the_builder_draws() -> None:
    for text, builder in (("resnet18-skip-1222", "resnet18"), ("mobilenet-skip-1222121", "mobilenet")):
        state = compiled(text, seed=3).state_dict()
        torch.manual_seed(3)
        expected = build(builder, 10).state_dict()
        assert list(state) == list(expected)
        assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_nothing_is_drawn_without_numbers() -> None:
    before = torch.get_rng_state()
    with torch.device("meta"):
        model = sapool.compile("mobilenet_v2-nlp_headfix2-1222121", num_classes=10)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("text", ["timm:mobilenetv2_035-lip-1222121", "timm:mobilenetv2_050_v2-nlp_headfix2-2222121"])
def test_mobilenets_of_other_widths_start_as_published_in_the_papers_dialect(text: str) -> None:
    model = compiled(text, seed=2, dialect="paper")
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            std = math.sqrt(2 / (module.out_channels * module.weight[0, 0].numel()))
            sample = Sample.of(module.weight)
            assert abs(sample.std - std) < SIGMAS * std / math.sqrt(2 * sample.count), path
            assert module.bias is None or module.bias.abs().max() == 0, path
        if isinstance(module, nn.Linear):
            assert Sample.of(module.weight).std == pytest.approx(0.01, rel=0.2), path
            assert module.bias.abs().max() == 0, path
    # timm divides a depthwise convolution's fan by its groups; in the default dialect the backbone stays its own.
    own = compiled(text, seed=2).get_submodule("blocks.3.0.conv_dw")
    assert isinstance(own, nn.Conv2d)
    assert Sample.of(own.weight).std == pytest.approx(math.sqrt(2 / 9), rel=0.2)


def test_pools_can_start_as_pytorch_builds_them() -> None:
    """Their convolutions then have PyTorch's scale, offsets are 0 still, and all else starts as it did."""
    text = "resnet18-dfmnlp-1222"
    torch.manual_seed(0)
    model = sapool.compile(text, image_size=64, num_classes=10, pools_start="torch")
    usual = sapool.compile(text, image_size=64, num_classes=10)
    for site in ("stage2", "stage4"):
        convolution = next(m for m in model.get_submodule(f"pools.{site}").modules() if isinstance(m, nn.Conv2d))
        fan_in = convolution.weight[0].numel()
        offsets = [m for n, m in model.get_submodule(f"pools.{site}").named_modules() if n.endswith("offset")]
        assert all(not layer.weight.any() for layer in offsets)
        if convolution not in offsets:
            assert convolution.weight.std().item() == pytest.approx(math.sqrt(1 / (3 * fan_in)), rel=0.1)
    pools = [name for name, _ in model.named_parameters() if name.startswith("pools.")]
    assert {name for name, _ in usual.named_parameters()} >= set(pools)
    for name in ("layer2.0.downsample.0.weight", "layer3.1.conv1.weight"):
        own, other = model.get_parameter(name), usual.get_parameter(name)
        assert own.std().item() == pytest.approx(other.std().item(), rel=0.05)
    with pytest.raises(sapool.InputError, match="pools_start: expected backbone or torch, not 'none'"):
        sapool.compile(text, image_size=64, pools_start="none")  # type: ignore[arg-type]
