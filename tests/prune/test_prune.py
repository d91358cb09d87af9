"""Fewer channels: what is nothing goes unnoticed, pools follow their maps, and the result is a model like any other."""

from __future__ import annotations

import copy
import pickle
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

import sapool
from sapool.cost.flops import costs, total
from sapool.cost.memory import activation_memory
from sapool.errors import InputError, WeightsError
from sapool.export.python_code import source
from sapool.prune.pools import pool_state
from sapool.prune.search import Pruned, _narrowed, _state, prune
from sapool.prune.selection import select
from tests.tiers import in_tiers

pytest.importorskip("torch_pruning")

PAPER = "resnet18-nlp_headfix2_nowin_reduced-1222"
SIZE = 32


def made(text: str, **options: object) -> sapool.CompiledModel:
    torch.manual_seed(0)
    return sapool.compile(text, num_classes=10, image_size=SIZE, **options).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def half() -> tuple[sapool.CompiledModel, Pruned]:
    model = made(PAPER)
    with torch.no_grad():  # as a caller who only measures may have it
        return model, prune(model, macs=0.5)


def test_half_the_macs(half: tuple[sapool.CompiledModel, Pruned]) -> None:
    model, pruned = half
    assert pruned.after.macs <= pruned.before.macs / 2
    assert pruned.after.macs > 0.4 * pruned.before.macs
    assert pruned.after.peak < pruned.before.peak
    assert pruned.after.parameters == sum(p.numel() for p in pruned.model.parameters()) < pruned.before.parameters
    assert pruned.model(torch.randn(2, 3, SIZE, SIZE)).shape == (2, 10)
    # What was counted is what the ordinary functions count.
    assert total(costs(pruned.model, pruned.model.plan)).macs == pruned.after.macs
    assert activation_memory(pruned.model, pruned.model.plan).peak == pruned.after.peak
    # The model that was given stays.
    assert model.plan == made(PAPER).plan
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), made(PAPER).parameters(), strict=True))


def test_pools_follow_the_maps_and_heads_stay_whole(half: tuple[sapool.CompiledModel, Pruned]) -> None:
    model, pruned = half
    for before, after in zip(model.plan.sites, pruned.model.plan.sites, strict=True):
        if after.pool is None:
            continue
        assert after.pool.channels == after.channels <= before.channels
        assert before.attention is not None
        assert after.attention is not None
        assert after.attention.embedding % after.attention.heads == 0
        ratio = before.attention.embedding / before.channels
        assert abs(after.attention.embedding - ratio * after.channels) <= after.attention.heads / 2
        pool = pruned.model.get_submodule(after.module)
        assert pool.get_parameter("embed.0.weight").shape[:2] == (after.attention.embedding, after.channels)
        assert pool.get_parameter("restore.0.weight").shape[:2] == (after.channels, after.attention.embedding)
    assert [f.channels for f in pruned.model.feature_info] != [f.channels for f in model.feature_info]
    assert [f.reduction for f in pruned.model.feature_info] == [f.reduction for f in model.feature_info]


def test_it_is_a_model_like_any_other(half: tuple[sapool.CompiledModel, Pruned], tmp_path: Path) -> None:
    _, pruned = half
    model, x = pruned.model.eval(), torch.randn(2, 3, SIZE, SIZE)
    sapool.save(model, tmp_path / "model.pt")
    loaded = sapool.load(tmp_path / "model.pt").eval()
    faster = sapool.optimize(model)
    sapool.save(faster, tmp_path / "faster.pt")
    (tmp_path / "written.py").write_text(source(model))
    written = runpy.run_path(str(tmp_path / "written.py"))["Model"]().eval()
    written.load_state_dict(model.state_dict())
    with torch.no_grad():
        y = model(x)
        for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), written):
            assert torch.equal(other(x), y)
        assert torch.equal(sapool.load(tmp_path / "faster.pt").eval()(x), faster(x))
        assert (faster(x) - y).abs().max() < 1e-4 * y.abs().max()
    assert loaded.plan == model.plan
    assert loaded.feature_info == model.feature_info
    # It goes on being trained.
    loaded.train()(x).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in loaded.parameters())


def test_nothing_is_pruned_where_nothing_has_to_go() -> None:
    model = made("resnet18-lip-1222")
    pruned = prune(model, macs=1.0)
    assert (pruned.ratio, pruned.before) == (0.0, pruned.after)
    assert pruned.model.origin.shapes is None
    x = torch.randn(1, 3, SIZE, SIZE)
    assert torch.equal(pruned.model(x), model(x))
    # A selection of none of the channels changes nothing either, attention included.
    model = made(PAPER)
    again = _narrowed(model, _state(model, select(model, 0.0, "magnitude", 8)))
    assert torch.equal(again.eval()(x), model(x))
    assert again.plan == model.plan


@pytest.mark.parametrize(
    "text",
    [
        "resnet18-lip-1222",
        "mobilenet-avgp-1222121",
        "dyresnet18_v2-maxp-1222",
        "resnet18-blur-1222",
        "resnet18-skipblur-2222",
    ],
)
def test_channels_that_carry_nothing_go_first_and_change_nothing(text: str) -> None:
    """Batch norms whose scale and shift are 0 for some channels make them 0; the network without them is the same."""
    model = made(text)
    with torch.no_grad():
        for path, norm in model.named_modules():
            if isinstance(norm, nn.BatchNorm2d) and not path.startswith("pools."):
                assert norm.running_mean is not None
                norm.running_mean.uniform_(-0.5, 0.5)
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.5, 0.5)
                norm.weight[::4] = 0
                norm.bias[::4] = 0
    kept = select(model, 0.2, "batchnorm", 1)
    norms = {path: layer for path, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    gone = {
        path: set(range(norm.num_features)) - set(kept.outputs[path].tolist())
        for path, norm in norms.items()
        if path in kept.outputs
    }
    assert sum(map(len, gone.values())) > 100
    assert all(number % 4 == 0 for numbers in gone.values() for number in numbers)
    smaller = _narrowed(model, _state(model, kept)).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        y, expected = smaller(x), model(x)
    assert (y - expected).abs().max() <= 1e-4 * expected.abs().max()


KINDS = (
    "prepool-nlp_reduced-4-resnet18-gaussian_pool-1222",
    "dyresnet18-nlp_headfix2-1222",
    "mobilenet_v2-nlp_headfix2_nowin-1222121",
    "squeezenet1_1-lip-2221",
)
MORE = (
    "resnet18-attnpool-1222",
    "resnet18_v2-dfmixp_reduced0211-1222",
    "timm:mobilenetv2_035-lip-1222121",
    "efficientnet_b0-mixp-1222121",
    "resnext50_32x4d-lip-1222",
)


@pytest.mark.parametrize("text", in_tiers([*KINDS, *MORE], (), KINDS))
def test_networks_of_many_kinds(text: str, tmp_path: Path) -> None:
    model = made(text)
    pruned = prune(model, macs=0.6)
    assert pruned.after.macs <= 0.6 * pruned.before.macs
    sapool.save(pruned.model, tmp_path / "model.pt")
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(sapool.load(tmp_path / "model.pt").eval()(x), pruned.model.eval()(x))


def test_a_budget_of_memory() -> None:
    model = made("resnet18-lip-1222")
    peak = activation_memory(model, model.plan).peak
    pruned = prune(model, budget=peak // 2, importance="batchnorm")
    assert pruned.after.peak <= peak // 2
    with pytest.raises(InputError, match="peak: 100 can't be reached"):
        prune(model, budget="100B")


def test_what_cannot_be_asked() -> None:
    model = made("resnet18-skip-1222")
    for arguments, said in (
        ({}, "one target"),
        ({"macs": 0.5, "budget": "1KB"}, "one target"),
        ({"macs": 0}, "expected a part up to 1"),
        ({"macs": 0.5, "importance": "taylor"}, "expected magnitude or batchnorm"),
        ({"macs": 0.5, "round_to": 0}, "round_to"),
        ({"budget": "much"}, "isn't a size"),
    ):
        with pytest.raises(InputError, match=said):
            prune(model, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="optimized model can't be pruned"):
        prune(sapool.optimize(model), macs=0.5)


def test_a_file_whose_shapes_do_not_fit_together_is_damaged(tmp_path: Path) -> None:
    model = made("resnet18-lip-1222")
    sapool.save(model, tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    shapes = {key: list(value.shape) for key, value in content["state_dict"].items()}
    shapes["layer1.0.conv1.weight"][0] = 7
    torch.save({**content, "shapes": shapes}, tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match="is damaged"):
        sapool.load(tmp_path / "odd.pt")


def test_a_strangers_pooling_is_refused() -> None:
    class Own(sapool.Pooling):
        def __init__(self, channels: int, stride: int) -> None:
            super().__init__(channels, stride)
            self.other = nn.Conv2d(channels, channels, 1)

    with pytest.raises(InputError, match="how other of a Own follows"):
        pool_state(Own(8, 2), torch.arange(4))
