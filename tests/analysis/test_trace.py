from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from sapool.analysis.trace import trace
from sapool.catalogue.backbones import BACKBONES
from sapool.errors import InputError
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


class Moody(nn.Module):
    """Leaves its input alone in evaluation, as stochastic depth does."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand(1) if self.training else x


class Regularised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.moody = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Moody()

    def forward(self, x: Tensor) -> Tensor:
        x = self.moody(self.norm(self.conv(x))) + torch.arange(4.0)[None, :, None, None]
        return F.dropout(x, 0.3, training=self.training)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_graph_follows_its_mode(training: bool) -> None:
    """Modules that do other things in training stay whole; functional dropout becomes a module."""
    eager = Regularised()
    traced = trace(copy.deepcopy(eager))
    assert isinstance(traced.moody, Moody)
    assert isinstance(traced.dropout, nn.Dropout)
    assert traced.dropout.p == 0.3
    outputs = []
    for module in (eager.train(training), traced.train(training)):
        torch.manual_seed(0)
        outputs.append(module(image()))
    assert torch.equal(*outputs)
    assert list(traced.state_dict()) == list(eager.state_dict())


def test_tracing_leaves_a_module_in_its_mode() -> None:
    module = Regularised()
    module.norm.eval()
    trace(module)
    assert (module.training, module.norm.training, module.moody.training) == (True, False, True)


class Backwards(nn.Module):
    """Calls its layers in another order than it declares them."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Conv2d(4, 5, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


def test_parameters_keep_the_order_of_their_declaration() -> None:
    module = Backwards()
    assert list(trace(module).state_dict()) == list(module.state_dict())


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_refusal_names_the_module_that_stops_it() -> None:
    with pytest.raises(InputError, match=r"net can't be traced by torch.fx: 1 \(Deciding\) stops it"):
        trace(nn.Sequential(nn.Conv2d(3, 3, 1), Deciding()), "net")
