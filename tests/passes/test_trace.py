from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision import models

from sapool.backbones import BACKBONES
from sapool.passes.trace import trace
from sapool.poolings import build
from tests.passes.tiny import Net, image, net, nodes


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_traced_equals_eager(name: str, training: bool) -> None:
    torch.manual_seed(0)
    eager = models.get_model(BACKBONES[name].builder, num_classes=10).train(training)
    traced = trace(copy.deepcopy(eager))
    assert list(traced.state_dict()) == list(eager.state_dict())
    outputs = []
    for module in (eager, traced):
        torch.manual_seed(1)
        outputs.append(module(image(64)))
        outputs[-1].square().sum().backward()
    assert torch.equal(*outputs)
    for eager_parameter, traced_parameter in zip(eager.parameters(), traced.parameters(), strict=True):
        assert torch.equal(eager_parameter.grad, traced_parameter.grad)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(eager.buffers(), traced.buffers(), strict=True))


def test_nodes_are_named_after_their_modules() -> None:
    assert list(nodes(net())) == [
        "x", "conv", "relu", "maxpool",
        "stage1_conv1", "stage1_relu", "stage1_conv2", "stage1_add", "stage1_relu_1",
        "stage2_conv1", "stage2_relu", "stage2_conv2", "stage2_downsample_0", "stage2_add", "stage2_relu_1",
        "side", "mean", "mean_1", "cat", "fc", "output",
    ]  # fmt: skip
    with torch.device("meta"):
        resnet = nodes(trace(models.resnet18()))
        mobilenet = nodes(trace(models.mobilenet_v2()))
    assert {"conv1", "layer1_0_conv1", "layer1_0_add", "layer1_0_relu_1", "layer4_1_add", "flatten", "fc"} <= set(
        resnet
    )
    assert {"features_0_0", "features_3_add", "features_18_2", "classifier_1"} <= set(mobilenet)


def test_a_graph_has_the_modules_own_parameters() -> None:
    module = Net()
    traced = trace(module)
    pairs = zip(module.named_parameters(), traced.named_parameters(), strict=True)
    assert all(name == other and p is q for (name, p), (other, q) in pairs)


@pytest.mark.parametrize("kind", ["maxp", "lip", "gaussian_pool", "attnpool", "nlp", "dfmixp"])
def test_our_poolings_stay_single_nodes(kind: str) -> None:
    module = trace(nn.Sequential(nn.Conv2d(3, 4, 1), build(kind, 4, 2, heads=2)))
    assert [(node.op, node.target) for node in module.graph.nodes][1:-1] == [("call_module", "0"), ("call_module", "1")]
