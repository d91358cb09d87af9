"""`SapoolBackbone`: the compiled network under its own names, in mmdet's registry."""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models

import sapool
from sapool.detect import SapoolBackbone
from sapool.errors import InputError, WeightsError

ARCH = "resnet18-nlp_headfix2_nowin_reduced-2222"


def build(**more: object) -> SapoolBackbone:
    torch.manual_seed(0)
    return MODELS.build({"type": "SapoolBackbone", "arch": ARCH, "out_indices": (1, 2), **more})


@pytest.mark.parametrize(
    "arch",
    [ARCH, "mobilenet_v2-lip-2222121", "prepool-nlp_reduced-4-resnet18-gaussian_pool-1222", "dyresnet18-lip-1222"],
)
def test_it_computes_what_the_compiled_network_does(arch):
    backbone = SapoolBackbone(arch, out_indices=(0, 2)).eval()
    network = sapool.compile(arch, features_only=True, out_indices=(0, 2)).eval()
    network.load_state_dict(backbone.state_dict())
    x = torch.randn(1, 3, 96, 64)
    ours, theirs = backbone(x), network(x)
    assert isinstance(ours, tuple)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert [y.shape[1] for y in ours] == [feature.channels for feature in backbone.feature_info]
    assert backbone.feature_info == network.feature_info


def test_names_are_the_backbones_own():
    assert set(models.resnet18().state_dict()) & set(build().state_dict()) >= {"conv1.weight", "layer3.1.bn2.bias"}
    assert {key.split(".")[0] for key in build().state_dict()} == {
        "conv1",
        "bn1",
        "layer1",
        "layer2",
        "layer3",
        "pools",
    }


def test_copies_and_replaced_children_are_used():
    backbone = build().eval()
    x = torch.randn(1, 3, 64, 64)
    twin = copy.deepcopy(backbone)
    assert torch.equal(twin(x)[0], backbone(x)[0])
    twin.conv1 = nn.Sequential(twin.conv1, nn.Sigmoid())
    assert not torch.equal(twin(x)[0], backbone(x)[0])
    half = copy.deepcopy(backbone).double()
    assert half(x.double())[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("stages", "frozen"),
    [
        (-1, set()),
        (0, {"conv1", "bn1"}),
        (1, {"conv1", "bn1", "layer1", "pools.stage1"}),
        (2, {"conv1", "bn1", "layer1", "layer2", "pools.stage1", "pools.stage2"}),
    ],
)
def test_frozen_stages_stay_as_they_are(stages, frozen):
    backbone = build(frozen_stages=stages, out_indices=(3,)).train()
    group = {key: key if key.startswith("pools") else key.split(".")[0] for key in ("pools",)}
    for key, parameter in backbone.named_parameters():
        parts = key.split(".")
        group = ".".join(parts[:2]) if parts[0] == "pools" else parts[0]
        assert parameter.requires_grad == (group not in frozen), key
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 128, 128))[0].sum().backward()
    torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], 0.1).step()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    groups = {".".join(key.split(".")[:2]) if key.startswith("pools") else key.split(".")[0] for key in changed}
    assert groups & frozen == set()
    assert {"layer3", "layer4", "pools.stage4"} <= groups


def test_norm_eval_keeps_statistics_and_trains_weights():
    backbone = build(norm_eval=True).train()
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert all(norm.weight.requires_grad for norm in norms)
    assert all(norm.training for norm in build().train().modules() if isinstance(norm, _BatchNorm))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"out_indices": (1, 4)}, "outputs 0 to 3, not 4"),
        ({"frozen_stages": 5}, r"has 4 stages: -1 \(none\) to 4 can be frozen, not 5"),
        ({"dialect": "papr"}, "dialect"),
        ({"arch": "resnet18-nlpp-1222"}, "nearest valid spelling"),
    ],
)
def test_wrong_arguments(arguments, said):
    with pytest.raises(InputError, match=said):
        SapoolBackbone(**{"arch": ARCH, **arguments})


# Weights


@pytest.fixture
def plain(tmp_path):
    torch.manual_seed(1)
    state = models.resnet18().state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in state.items()} | {"neck.w": torch.zeros(1)}},
               tmp_path / "detector.pth")  # fmt: skip
    return tmp_path, state


@pytest.mark.parametrize(("name", "more"), [("resnet18.pth", {}), ("detector.pth", {"prefix": "backbone."}),
                                            ("detector.pth", {"prefix": "backbone"})])  # fmt: skip
def test_pretrained_files_with_and_without_prefix(plain, name, more):
    folder, state = plain
    backbone = build(init_cfg={"type": "Pretrained", "checkpoint": str(folder / name), **more})
    assert not torch.equal(backbone.conv1.weight, state["conv1.weight"])
    backbone.init_weights()
    for key, value in backbone.state_dict().items():
        assert key.startswith("pools") or torch.equal(value, state[key]), key


def test_published_weights(monkeypatch, plain):
    _, state = plain
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda entry, **_: state)
    monkeypatch.setattr("sapool.catalogue.hubs.silence", lambda _: None)
    backbone = build(init_cfg={"type": "Pretrained", "checkpoint": "DEFAULT"})
    backbone.init_weights()
    assert torch.equal(backbone.get_parameter("layer2.0.conv1.weight"), state["layer2.0.conv1.weight"])


def test_addresses_are_fetched_once_and_read_as_plain_data(monkeypatch, plain):
    folder, state = plain
    fetched = []

    def download(address, file, **_):
        fetched.append(address)
        torch.save(state, file)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        backbone = build(init_cfg={"type": "Pretrained", "checkpoint": "torchvision://resnet18"})
        backbone.init_weights()
        assert torch.equal(backbone.conv1.weight, state["conv1.weight"])
    assert len(fetched) == 1
    assert fetched[0].startswith("https://")


@pytest.mark.parametrize(
    ("checkpoint", "more", "said"),
    [
        ("nowhere.pth", {}, "no such file"),
        ("{}/detector.pth", {"prefix": "back."}, "no keys that begin with 'back.'"),
        ("{}/detector.pth", {}, "none of the"),
        ("torchvision://resnet19", {}, "Did you mean 'resnet1"),
    ],
)
def test_wrong_weights(plain, checkpoint, more, said):
    given = {"type": "Pretrained", "checkpoint": checkpoint.format(plain[0]), **more}
    with pytest.raises(WeightsError, match=said):
        build(init_cfg=given).init_weights()


def test_dynamic_kernels_take_plain_weights(plain):
    folder, state = plain
    backbone = build(
        arch="dyresnet18-lip-1222", init_cfg={"type": "Pretrained", "checkpoint": str(folder / "resnet18.pth")}
    )
    backbone.init_weights()
    kernels = backbone.state_dict()["conv1.weight"]
    assert all(torch.equal(kernel, state["conv1.weight"]) for kernel in kernels)
