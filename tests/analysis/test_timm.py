"""Convolutional classifiers of timm: no entry of the catalogue, everything is found in the graph."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch

import sapool
from sapool.errors import ArchitectureError, InputError, WeightsError
from sapool.planning import survey
from sapool.weights.transfer import transfer
from sapoolc import main
from tests.analysis import laws
from tests.tiers import in_tiers

timm = pytest.importorskip("timm")

# Family by family, with the strides that are found in them.
MODELS = {
    "resnet26t": "1222", "resnet50d": "1222", "resnetblur50": "1222", "resnetaa50": "1222", "seresnet33ts": "1222",
    "gcresnext26ts": "1222", "resnet51q": "1222", "legacy_seresnet18": "1222", "resnetv2_18": "1222",
    "resnetv2_50x1_bit": "1222", "skresnet18": "1222", "resnest14d": "1222", "res2net50_26w_4s": "1222",
    "regnetx_002": "2222", "regnety_002": "2222", "regnetz_005": "2222", "gernet_s": "22221", "repvgg_a0": "2222",
    "mobileone_s0": "2222", "mobilenetv1_100": "12222", "mobilenetv2_100": "1222121",
    "mobilenetv3_small_100": "22212", "mobilenetv4_conv_small": "2222", "mnasnet_100": "1222121",
    "fbnetc_100": "1222121", "lcnet_050": "122212", "tinynet_e": "1222121", "hardcorenas_a": "122212",
    "efficientnet_b0": "1222121", "tf_efficientnet_b0": "1222121", "tf_efficientnetv2_b0": "22212",
    "mixnet_s": "122212", "ghostnet_100": "121212121", "ghostnetv2_100": "121212121",
    "repghostnet_050": "121212121", "rexnet_100": "12222", "convnext_atto": "1222", "convnextv2_atto": "1222",
    "inception_next_tiny": "1222", "cspresnet50": "1222", "cspdarknet53": "22222", "darknet17": "22222",
    "cs3darknet_s": "2222", "dla34": "2222", "dpn68": "1222", "densenet121": "1222", "edgenext_xx_small": "1222",
    "fasternet_t0": "1222", "fastvit_t8": "1222", "hgnetv2_b0": "1222", "vovnet39a": "1222",
    "ese_vovnet19b_dw": "1222", "poolformer_s12": "1222", "repvit_m0_9": "1222", "rdnet_tiny": "1221112",
    "starnet_s1": "2222", "selecsls42": "21212122", "tresnet_m": "1222", "xception41p": "2222",
    "legacy_xception": "2222", "inception_v3": "122", "mobilevit_xxs": "12222", "efficientvit_b0": "2222",
    "swiftformer_xs": "1222", "focalnet_tiny_srf": "1222",
}  # fmt: skip
# What every run tries, and what the gate does.
QUICK = ("legacy_seresnet18", "lcnet_050", "convnext_atto", "dla34")
SLOW = (
    "resnetv2_18", "res2net50_26w_4s", "regnety_002", "mobileone_s0", "mobilenetv3_small_100", "mixnet_s",
    "ghostnet_100", "rexnet_100", "cspresnet50", "fastvit_t8", "poolformer_s12", "xception41p", "selecsls42",
)  # fmt: skip
LARGER = {"inception_v3": 192, "ghostnetv2_100": 128, "selecsls42": 128, "legacy_xception": 128}


def test_the_models_are_of_many_families() -> None:
    assert len(MODELS) >= 60
    assert len({timm.models._registry._model_to_module[name] for name in MODELS}) >= 25


@pytest.mark.parametrize("name", in_tiers(MODELS, QUICK, SLOW))
def test_laws(name: str) -> None:
    subject = laws.Subject(f"timm:{name}", LARGER.get(name, 64))
    assert subject.found.unchanged == MODELS[name]
    laws.traced_equals_eager(subject)
    laws.unchanged_strides_change_nothing(subject)
    laws.compiles(subject)
    laws.trains(subject)


@pytest.mark.parametrize("name", ["resnet50d", "regnetx_002", "convnext_atto", "cspresnet50", "dla34"])
def test_stages_are_those_that_timm_declares(name: str) -> None:
    """timm's own table of features has the same channels and reductions."""
    ours = {(stage.last.channels, reduction) for stage, reduction in zip(*_reductions(name), strict=True)}
    theirs = {(entry["num_chs"], entry["reduction"]) for entry in timm.create_model(name).feature_info}
    assert {pair for pair in theirs if pair[1] > 4} <= ours


def _reductions(name: str) -> tuple[tuple[Any, ...], list[int]]:
    found = survey(f"timm:{name}")
    reduction, reductions = found.stem_stride, []
    for stage in found.stages:
        reduction *= stage.stride
        reductions.append(reduction)
    return found.stages, reductions


@pytest.mark.parametrize("name", ["resnet50d", "convnext_atto", "mobilenetv3_small_100", "dla34"])
def test_pretrained_weights_transfer(name: str) -> None:
    weights = timm.create_model(name).state_dict()
    model = sapool.compile(f"timm:{name}-lip-{MODELS[name]}", image_size=64)
    report = transfer(model, weights)
    assert set(report.transferred) == set(weights)
    assert report.dropped == ()
    assert report.new
    assert all(key.startswith("pools.") for key in report.new)


def test_published_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", unreachable)
    with pytest.raises(WeightsError, match=r"timm's resnet18.a1_in1k can't be fetched from timm/resnet18.a1_in1k"):
        sapool.compile("timm:resnet18.a1_in1k-lip-1222", weights="DEFAULT")
    with pytest.raises(WeightsError, match="timm publishes no weights for regnetz_b16_evos"):
        sapool.compile("timm:regnetz_b16_evos-lip-2222", weights="DEFAULT")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_tiny_patch16_224", r"patch_embed doesn't take the maps of images of any size .* hard-codes a resolution"),
        ("convmixer_768_32", r"has no stages to rewrite: stem_0 \(7x\) is all that lowers its resolution"),
        ("hrnet_w18_small", "can't be rewritten: stage 2"),
        ("mambaout_femto", r"laid out \(N, H, W, C\)"),
        ("nasnetalarge", "can't be rewritten: stage 1"),
        ("resnet19", r"timm has no model 'resnet19'. Did you mean 'resnet18'"),
        ("resnet18.nobody", "no pretrained tag 'nobody'; it has a1_in1k"),
    ],
)
def test_refusals_by_name(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        survey(f"timm:{name}")


def test_strides_are_counted_when_the_model_is_known() -> None:
    with pytest.raises(ArchitectureError) as caught, torch.device("meta"):
        sapool.compile("timm:resnet50d-nlp-122")
    assert str(caught.value).splitlines() == [
        "timm:resnet50d has 4 stages, but '122' has 3 digits",
        "  timm:resnet50d-nlp-122",
        "                     ^^^",
        "expected 4 digits, one per stage, for instance 1222",
        "nearest valid spelling: timm:resnet50d-nlp-1222",
    ]


@pytest.mark.parametrize(
    ("text", "backbone", "first_block"),
    [
        ("timm:inception_resnet_v2-lip-1121211", "timm:inception_resnet_v2", False),
        ("timm:inception_resnet_v2_v2-lip-1121211", "timm:inception_resnet_v2", True),
        ("timm:resnet50d_v2-lip-1222", "timm:resnet50d", True),
        ("timm:resnet50d.ra2_in1k-lip-1222", "timm:resnet50d.ra2_in1k", False),
        ("timm:hrnet_w18_small_v2.ms_in1k-lip-1222", "timm:hrnet_w18_small_v2.ms_in1k", False),
        ("dytimm:resnet18-lip-1222", "timm:resnet18", False),
    ],
)
def test_names_that_end_like_a_placement(text: str, backbone: str, first_block: bool) -> None:
    parsed = sapool.parse(text)
    assert (parsed.backbone, parsed.first_block) == (backbone, first_block)
    assert str(parsed) == text
    assert parsed.dynamic == text.startswith("dy")


def test_a_name_with_two_readings_shows_both() -> None:
    with pytest.raises(ArchitectureError) as caught:
        sapool.parse("timm:hrnet_w18_small_v2-lip-1222")
    said = str(caught.value)
    assert "is the backbone timm:hrnet_w18_small_v2, or timm:hrnet_w18_small with '_v2'" in said
    assert "timm:hrnet_w18_small.<tag>_v2" in said


def test_without_timm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    genuine = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "timm":
            raise ImportError(name)
        return genuine(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["compile", "timm:resnet18-lip-1222"]) == 2
    assert capsys.readouterr().err == 'sapoolc: backbones of timm need timm: pip install "sapool[timm]"\n'


def test_inspect_shows_what_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "timm:mobilenetv4_conv_small"]) == 0
    said = capsys.readouterr().out
    assert "unchanged: timm:mobilenetv4_conv_small-skip-2222" in said
    assert "pools go before the first block of a stage" in said
    assert [line.split()[:4] for line in said.splitlines() if line.startswith("st")] == [
        ["stem", "32", "2", "2"], ["stage1", "32", "2", "4"], ["stage2", "64", "2", "8"], ["stage3", "96", "2", "16"],
        ["stage4", "128", "2", "32"],
    ]  # fmt: skip
