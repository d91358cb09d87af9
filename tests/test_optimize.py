"""Inference rewrites compute the same, are recorded, and refuse what isn't exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sapool
from sapool.cost.unroll import unroll
from sapool.poolings.window import AvgPool


def _lively(text: str, size: int = 64) -> sapool.CompiledModel:
    """A model whose batch norms do something."""
    torch.manual_seed(0)
    model = sapool.compile(text, image_size=size, num_classes=10).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return model


@pytest.mark.parametrize(
    "text",
    [
        "resnet18-skip-1222",
        "resnet18-nlp_reduced-1222",
        "prepool-nlp-4-resnet18-lip-1222",
        "resnet18-gaussian_pool-1222",
        "resnet18-attnpool-1222",
        "resnet18-dfmixp-1222",
        "mobilenet_v2-mixp-1222121",
        "dyresnet18-nlp-1222",
        "resnet18-hwd-1222",
        "resnet18-hwd-1312",
    ],
)
def test_same_outputs(text: str) -> None:
    model = _lively(text)
    tuned = sapool.optimize(model)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, seen = model(x), tuned(x)
    assert (seen - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in tuned.modules())
    assert {r.rule for r in tuned.rewrites} >= {"fold_norms"}
    assert tuned.rewrites[: len(model.rewrites)] == model.rewrites
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules()), "the original stays as it was"
    assert len(unroll(tuned, 64, 64).graph.nodes) < len(unroll(model, 64, 64).graph.nodes)


def test_cancelled_attention_becomes_average_pooling() -> None:
    tuned = sapool.optimize(_lively("resnet18-nlp_reduced-2222", size=128))
    stages = ("stage1", "stage2", "stage3", "stage4")
    assert [s for s in stages if isinstance(tuned.get_submodule(f"pools.{s}"), AvgPool)] == ["stage1", "stage2"]
    reasons = {r.site: r.reason for r in tuned.refusals if r.rule == "cancel_attention"}
    assert reasons == dict.fromkeys(("stage3", "stage4"), "its weights differ within a window")


@pytest.mark.parametrize("text", ["resnet18-nlp-1222", "mobilenet-attnpool-1222121", "resnet18-dfmixp_reduced-1222"])
def test_projections_join_the_convolution_behind_them(text: str) -> None:
    model = _lively(text, size=70)  # 35 pixels and fewer: patches leave a border
    for pool in model.get_submodule("pools").children():
        nn.init.normal_(pool.get_submodule("attention.out_proj").bias)  # type: ignore[arg-type]
    tuned, x = sapool.optimize(model), torch.randn(2, 3, 70, 70)
    with torch.no_grad():
        expected, seen = model(x), tuned(x)
    assert (seen - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert not any(path.endswith("out_proj") and list(part.parameters()) for path, part in tuned.named_modules())
    assert sapool.cost(tuned).total.macs < sapool.cost(model).total.macs


def test_a_dynamic_convolution_keeps_the_projection_before_it() -> None:
    tuned = sapool.optimize(_lively("dyresnet18-nlp-1222"))
    assert isinstance(tuned.get_submodule("pools.stage2.attention.out_proj"), nn.Linear)
    reasons = {refusal.reason for refusal in tuned.refusals if refusal.rule == "fold_projections"}
    assert reasons == {"no plain convolution stands right behind it"}


@pytest.mark.parametrize("text", ["resnet18-hwd-1222", "resnet18-hwd-1312"])
def test_subbands_join_the_convolution_behind_them(text: str) -> None:
    tuned = sapool.optimize(_lively(text))
    pool = tuned.get_submodule("pools.stage2")
    assert [type(part) for part in pool.mix] == [nn.Conv2d, nn.Identity, nn.ReLU]  # type: ignore[union-attr]
    assert sapool.cost(tuned).total.macs < sapool.cost(_lively(text)).total.macs


@pytest.mark.parametrize("text", ["resnet18-nlp_nowin_reduced-2222", "resnet18-mixp_reduced-2222"])
def test_attention_that_matters_stays(text: str) -> None:
    tuned = sapool.optimize(_lively(text, size=128))
    assert not any(isinstance(module, AvgPool) for module in tuned.modules())


def test_cancelled_only_where_patches_fill_the_map() -> None:
    tuned = sapool.optimize(_lively("resnet18-nlp_reduced-2222", size=132))  # stage 1 pools 33x33 in patches of 4
    assert not isinstance(tuned.get_submodule("pools.stage1"), AvgPool)


def test_optimizing_twice_is_refused() -> None:
    tuned = sapool.optimize(_lively("resnet18-skip-1222"))
    with pytest.raises(sapool.InputError, match="already"):
        sapool.optimize(tuned)


def test_feature_maps_too() -> None:
    model = sapool.compile("mobilenet-lip-1222121", image_size=64, features_only=True, out_indices=(2, 7)).eval()
    tuned = sapool.optimize(model)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for expected, seen in zip(model(x), tuned(x), strict=True):
            assert (seen - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert tuned.feature_info == model.feature_info
