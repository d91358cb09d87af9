"""A streamed model is an ordinary module: keys, gradients, copies, files, traces, exports, other batches and dtypes."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import sapool
from sapool.errors import InputError
from sapool.schedule.streamed import StreamedModel
from tests.schedule.support import distance, image, network_of

TEXT = "prepool-lip-2-resnet18-nlp_headfix2-1222"


@pytest.fixture(scope="module")
def model() -> fx.GraphModule:
    return network_of(TEXT, 64)


@pytest.fixture(scope="module")
def streamed(model: fx.GraphModule) -> StreamedModel:
    return sapool.stream(model, bands=6, seconds=0.5)


def test_it_is_the_same_module(model: fx.GraphModule, streamed: StreamedModel) -> None:
    assert list(streamed.state_dict()) == list(model.state_dict())
    assert all(one is other for one, other in zip(streamed.parameters(), model.parameters(), strict=True))
    for batch in (1, 3):
        x = image(batch, 3, 64, 64)
        with torch.no_grad():
            assert distance(model(x), streamed(x)) <= 1e-6
    assert streamed.schedule.peak < streamed.schedule.plain_peak


@pytest.mark.parametrize("text", ["mobilenet-skip-2222121", "prepool-lip-2-resnet18-avgp-1222"])
def test_each_multiply_accumulate_is_done_once(text: str) -> None:
    model = network_of(text, 64)
    streamed = sapool.stream(model, seconds=0.5)
    counted = []
    for module in (model, streamed):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(image(1, 3, 64, 64))
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] == 2 * streamed.schedule.macs


def test_copies_and_files(streamed: StreamedModel) -> None:
    x = image(2, 3, 64, 64)
    expected = streamed(x)
    twin = copy.deepcopy(streamed)
    assert torch.equal(twin(x), expected)
    assert twin.fc.weight is not streamed.fc.weight
    file = io.BytesIO()
    torch.save(streamed, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), expected)
    twin.load_state_dict({name: torch.zeros_like(value) for name, value in streamed.state_dict().items()})
    assert not torch.equal(twin(x), expected)


def test_traced_and_exported(streamed: StreamedModel) -> None:
    x = image(1, 3, 64, 64)
    expected = streamed(x)
    traced = fx.symbolic_trace(streamed)
    torch.testing.assert_close(traced(x), expected, rtol=0, atol=0)
    assert not list(traced.graph.find_nodes(op="call_module"))
    exported = torch.export.export(streamed, (x,))
    torch.testing.assert_close(exported.module()(x), expected, rtol=0, atol=0)


def test_in_training_it_is_the_plain_model(model: fx.GraphModule) -> None:
    plain = copy.deepcopy(model).train()
    streamed = sapool.stream(copy.deepcopy(model), bands=3, seconds=0.5, check=False).train()
    x = image(4, 3, 64, 64)
    assert torch.equal(plain(x), streamed(x))
    assert torch.equal(plain.bn1.running_mean, streamed.bn1.running_mean)


def test_another_dtype() -> None:
    for text in ("resnet18-gaussian_pool-1222", "resnet18-dfmnlp_reduced-1222"):
        double = network_of(text, 64).double()
        streamed = sapool.stream(double, bands=7, seconds=0.5, check=False)
        x = image(2, 3, 64, 64, dtype=torch.float64)
        with torch.no_grad():
            assert distance(double(x), streamed(x)) <= 1e-12


def test_whole_numbers_are_exact() -> None:
    """What an int8 network computes are sums of products of whole numbers, which float64 holds exactly."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)
    ).double().eval()  # fmt: skip
    for parameter in net.parameters():
        parameter.data = torch.randint(-127, 128, parameter.shape).double()
    x = torch.randint(-128, 128, (2, 3, 37, 31)).double()
    for bands in (2, 3, 100):
        assert torch.equal(net(x), sapool.stream(net, bands=bands, image_size=(37, 31))(x))


GRADIENTS = (
    *("mobilenet_v3_small-avgp-22121111211", "dymobilenet-maxp-1222121", "resnet18-gaussian_pool-1222"),
    *("resnet18-attnpool-1222", "resnet18-nlp-1222", "resnet18-dfmixp_reduced-1222"),
)


@pytest.mark.parametrize(
    "text",
    ["resnet18-skip-1222", "resnet18-lip-1222", *(pytest.param(text, marks=pytest.mark.slow) for text in GRADIENTS)],
)
def test_gradients(text: str) -> None:
    plain = network_of(text, 64).double()
    streamed = copy.deepcopy(plain)
    streamed = sapool.stream(streamed, bands=5, seconds=0.5, check=False)
    x = image(2, 3, 64, 64, dtype=torch.float64)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    for module, given_ in zip((plain, streamed), inputs, strict=True):
        module(given_).square().sum().backward()
    assert distance(inputs[0].grad, inputs[1].grad) <= 1e-9
    for (name, one), other in zip(plain.named_parameters(), streamed.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            assert (one.grad - other.grad).abs().max() <= 1e-9 * one.grad.abs().max() + 1e-15, name


def test_feature_maps() -> None:
    model = sapool.compile("resnet18-skip-1222", features_only=True, image_size=(64, 96)).eval()
    streamed = sapool.stream(model, bands=4, seconds=0.5)
    x = image(1, 3, 64, 96)
    with torch.no_grad():
        assert distance(model(x), streamed(x)) <= 1e-6


def test_a_network_of_ones_own() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 2, 3, padding=1)).eval()
    streamed = sapool.stream(net, image_size=(19, 23))
    x = image(2, 1, 19, 23)
    assert distance(net(x), streamed(x)) <= 1e-6


def test_refusals(model: fx.GraphModule, streamed: StreamedModel) -> None:
    with pytest.raises(InputError, match="streams images of 64x64, not 32x32: stream it again"):
        streamed(image(1, 3, 32, 32))
    with pytest.raises(InputError, match=r"don't fit 1,024 bytes; streamed row by row they still take \d"):
        sapool.stream(model, "1KB", seconds=0.3)
    with pytest.raises(InputError, match="image_size: expected positive"):
        sapool.stream(model, image_size=0)


class Random(nn.Module):
    """A network drawn by hypothesis: each layer reads one or two of the maps before it."""

    def __init__(self, layers: list[tuple[str, int, int, int]]) -> None:
        super().__init__()
        self.layers = layers
        self.convs = nn.ModuleList(self._conv(kind, size) for kind, size, _, _ in layers)

    @staticmethod
    def _conv(kind: str, size: int) -> nn.Module:
        if kind == "conv":
            return nn.Conv2d(4, 4, size, padding=size // 2, dilation=1)
        if kind == "strided":
            return nn.Conv2d(4, 4, size, stride=2, padding=size // 2)
        return nn.Conv2d(4, 4, 1) if kind == "gate" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for (kind, size, one, two), conv in zip(self.layers, self.convs, strict=True):
            a, b = maps[one % len(maps)], maps[two % len(maps)]
            if kind in ("conv", "strided"):
                a = conv(a)
            elif kind == "pool":
                a = F.max_pool2d(a, size + 1, 2, (size + 1) // 2, ceil_mode=True)
            elif kind == "average":
                a = F.avg_pool2d(a, size, 1, size // 2, count_include_pad=False)
            elif kind == "upsample":
                a = F.interpolate(a, size=b.shape[-2:])
            elif kind == "join":
                a = a + F.interpolate(b, size=a.shape[-2:])
            elif kind == "shuffle":
                a = torch.cat([a[:, 2:], a[:, :2].exp().tanh()], 1)
            elif kind == "bilinear":
                a = F.interpolate(a, scale_factor=1.5, mode="bilinear")
            else:
                a = a * conv(b.mean((2, 3), keepdim=True)).sigmoid()
            maps.append(a)
        return torch.cat([value.flatten(1).tanh() for value in maps[1:]], 1)


KINDS = ("conv", "strided", "pool", "average", "upsample", "join", "shuffle", "bilinear", "gate")
LAYERS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from((1, 3, 5)), st.integers(0, 9), st.integers(0, 9)),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(layers=LAYERS, height=st.integers(9, 22), width=st.integers(8, 12), bands=st.sampled_from((2, 3, 1000)))
def test_random_networks(layers: list[tuple[str, int, int, int]], height: int, width: int, bands: int) -> None:
    """Whatever the graph: exact, no multiply-accumulate more, and no worse than plain."""
    torch.manual_seed(0)
    net = Random(layers).double().eval()
    x = image(2, 4, height, width, dtype=torch.float64)
    class_ = nn.Sequential(nn.Conv2d(4, 4, 1), net).double().eval()  # says how many channels images have
    streamed = sapool.stream(class_, bands=bands, image_size=(height, width), seconds=0.2, check=False)
    counted = []
    for module in (class_, streamed):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            counted.append((module(x), counter))
    torch.testing.assert_close(counted[1][0], counted[0][0], rtol=0, atol=1e-12)
    assert counted[0][1].get_total_flops() == counted[1][1].get_total_flops()
    assert streamed.schedule.peak <= streamed.schedule.plain_peak
