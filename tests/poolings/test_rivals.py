"""What is known of the poolings of others, and each in a whole network: copied, filed, compiled, exported, streamed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sapool
from sapool import poolings
from sapool.poolings.rivals.blur import BlurPool
from sapool.poolings.rivals.polyphase import AdaptivePolyphasePool
from sapool.poolings.rivals.subbands import HaarPool
from tests.export.tiny import SIZE, images, tiny
from tests.poolings.cases import RIVALS, Case


def test_blur_of_one_tap_is_subsampling() -> None:
    for stride, (height, width) in ((2, (9, 12)), (3, (11, 7))):
        x = torch.randn(2, 4, height, width)
        y = BlurPool(4, stride, taps=1)(x)
        rows, columns = height // stride, width // stride
        assert torch.equal(y, x[:, :, : rows * stride : stride, : columns * stride : stride])


@pytest.mark.parametrize("kind", ["blur", "maxblur", "softpool", "aps", "flc"])
def test_a_constant_map_keeps_its_value(kind: str) -> None:
    for value in (-300.0, 0.0, 3.5, 1e4):
        y = poolings.build(kind, 3, 2)(torch.full((1, 3, 9, 12), value))
        torch.testing.assert_close(y, torch.full((1, 3, 4, 6), value), rtol=1e-6, atol=1e-6)


def test_softpool_weighs_by_exponentials_of_any_size() -> None:
    x = torch.tensor([[[[1000.0, 1001.0], [-4e4, 1000.0]]]])
    y = poolings.build("softpool", 1, 2)(x)
    e = torch.tensor(1.0).exp()
    torch.testing.assert_close(y, ((2000 + 1001 * e) / (2 + e)).view(1, 1, 1, 1))


def test_haar_is_what_the_formula_says_and_inverts() -> None:
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    bands = HaarPool(3, 2).double().subbands(x).unflatten(1, (3, 4))
    expected = ((a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2)
    torch.testing.assert_close(bands, torch.stack(expected, 2), rtol=0, atol=1e-12)
    for stride in (2, 3, 4):
        pool = HaarPool(3, stride).double()
        whole = torch.randn(2, 3, 2 * stride, 3 * stride, dtype=torch.float64)
        bands = pool.subbands(whole)
        back = nn.functional.conv_transpose2d(bands, pool.bands, stride=stride, groups=3)
        torch.testing.assert_close(back, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["aps", "lps"])
@pytest.mark.parametrize("stride", [2, 3])
def test_a_polyphase_component_is_the_same_to_the_bit_wherever_the_map_is(kind: str, stride: int) -> None:
    pool = Case(kind, stride, (12, 12)).pool(torch.float32).eval()
    x = Case(kind, stride, (12, 12)).map(torch.float32)
    plain = pool(x)
    for down, across in ((1, 0), (0, 1), (1, 2), (5, 7)):
        moved = pool(x.roll((down, across), (2, 3)))
        shifted = [plain.roll((i, j), (2, 3)) for i in range(12 // stride) for j in range(12 // stride)]
        for image in range(len(x)):  # each has a component of its own
            assert any(torch.equal(moved[image], other[image]) for other in shifted), (down, across)
    assert not torch.equal(poolings.build("maxp", 6, stride)(x.roll(1, 2)), poolings.build("maxp", 6, stride)(x))


class Circular(nn.Module):
    """Convolutions that pad circularly, two poolings, a global maximum: nothing that knows where an image begins."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular")
        self.two = nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular")
        self.pools = nn.ModuleList([AdaptivePolyphasePool(6, 2), AdaptivePolyphasePool(4, 2)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.pools[0](self.one(x).relu())
        return self.pools[1](self.two(x).relu()).amax((2, 3))


def test_a_network_of_aps_gives_every_shifted_image_the_same_answer() -> None:
    torch.manual_seed(0)
    net, x = Circular().double().eval(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for down, across in ((1, 0), (2, 3), (7, 9)):
        # The convolution itself rounds otherwise at another place; which values are kept doesn't change.
        torch.testing.assert_close(net(x.roll((down, across), (2, 3))), net(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), [((12, 16), 2), ((15, 21), 3), ((12, 20), 4)])
def test_low_frequencies_lose_nothing(size: tuple[int, int], stride: int) -> None:
    """A map made of frequencies that the smaller one can hold is sampled: read between pixels, it is the same."""
    rows, columns = size[0] // stride, size[1] // stride
    generator = torch.Generator().manual_seed(0)

    def waves(height: int, width: int) -> Tensor:
        down, across = torch.arange(height).double() / height, torch.arange(width).double() / width
        total, drawn = torch.zeros(height, width, dtype=torch.float64), torch.Generator().set_state(state)
        for k in range((rows + 1) // 2):
            for n in range((columns + 1) // 2):
                one, other = torch.randn(2, generator=drawn, dtype=torch.float64)
                wave = 2 * torch.pi * (k * down[:, None] + n * across)
                total += one * wave.cos() + other * wave.sin()
        return total[None, None]

    state = generator.get_state()
    seen = poolings.build("flc", 1, stride)(waves(*size))
    torch.testing.assert_close(seen, waves(rows, columns), rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", RIVALS)
def test_a_whole_network(kind: str) -> None:
    model = tiny(kind)
    x = images(2)
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
        other.load_state_dict(model.state_dict())
    torch.compiler.reset()
    assert torch.equal(torch.compile(model, backend="aot_eager", fullgraph=True)(x), expected)
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-5, atol=1e-6)
    with FlopCounterMode(display=False) as counter:
        model(x[:1])
    assert counter.get_total_flops() == 2 * sapool.cost(model).total.macs
    model.train()(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", RIVALS)
def test_streamed_is_exact(kind: str) -> None:
    model = tiny(kind)
    for size, bands in (((SIZE, SIZE), 3), ((37, 41), 5)):
        x = torch.randn(2, 3, *size)
        streamed = sapool.stream(model, bands=bands, image_size=size, seconds=0.2, check=False)
        with torch.no_grad():
            torch.testing.assert_close(streamed(x), model(x), rtol=1e-5, atol=1e-6)
        assert streamed.schedule.peak <= streamed.schedule.plain_peak
