"""A compiled model is an ordinary module: it trains, copies, converts, compiles and exports like any other."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torchvision import models

import sapool
from sapool.catalogue.poolings import POOLINGS
from tests.poolings.cases import RIVALS
from tests.tiers import in_tiers

SIZE, CLASSES = 64, 10

EVERY_KIND = [
    *(f"resnet18-{kind}-1222" for kind in POOLINGS if kind not in RIVALS),
    "resnet18-rnnpool-1222",
    "resnet18-skipblur-1222",
]

ARCHITECTURES = [
    *EVERY_KIND,
    "resnet18-nlp_headfix2_nowin_reduced-1222",
    "resnet18_v2-nlp_reduced0211-1222",
    "resnet18-skip-2212",
    "prepool-nlp-4-resnet18-nlp-1222",
    "prepool-skip-2-resnet18-maxp-1222",
    "dyresnet18-nlp-1222",
    "mobilenet-nlp-1222121",
    "mobilenet_v2-lip-1222121",
    "prepool-lip-2-mobilenet-skip-1222121",
]

# What every run of the suite tries; the slow tier has the others.
QUICK = [
    "resnet18-skip-1222",
    "resnet18-lip-1222",
    "resnet18-attnpool-1222",
    "resnet18-nlp_headfix2_nowin_reduced-1222",
    "resnet18-dfmixp-1222",
    "prepool-nlp-4-resnet18-nlp-1222",
    "dyresnet18-nlp-1222",
    "mobilenet_v2-lip-1222121",
]

# One of each family: what a tracer sees is the same within a family.
FAMILIES = [
    "resnet18-skip-1222",
    "resnet18-maxp-1222",
    "resnet18-lip-1222",
    "resnet18-gaussian_pool-1222",
    "resnet18-attnpool-1222",
    "resnet18-nlp-1222",
    "resnet18-dfmnlp-1222",
    "resnet18-mixp-1222",
    "resnet18-dfmixp-1222",
    "prepool-nlp-4-resnet18-nlp-1222",
    "dyresnet18-nlp-1222",
]


@cache
def compiled(text: str) -> sapool.CompiledModel:
    """One model a string for the whole file; tests that change it work on a copy."""
    torch.manual_seed(0)
    model = sapool.compile(text, num_classes=CLASSES, image_size=SIZE)
    _vary_statistics(model)
    return model.eval()


def _vary_statistics(model: nn.Module) -> None:
    """Moves batch norms away from their start, where they would hide a scale or a statistic that got lost."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)


@pytest.fixture(params=in_tiers(ARCHITECTURES, QUICK))
def model(request: pytest.FixtureRequest) -> sapool.CompiledModel:
    """A model in eval mode that a test may change."""
    return copy.deepcopy(compiled(request.param))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _alike() -> Iterator[None]:
    """Every test starts alike, on one thread: models this small spend more threads' time waiting than computing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(2)
    yield
    torch.set_num_threads(threads)
    torch.compiler.reset()


def stamps(model: fx.GraphModule) -> list[tuple[str, Any]]:
    """Every node's name and what the compiler wrote on it."""
    return [(n.name, {key: n.meta.get(key) for key in ("rule", "site", "feature")}) for n in model.graph.nodes]


def difference(y: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value expected."""
    return ((y - expected).abs().max() / expected.abs().max()).item()


def test_every_parameter_learns(model: sapool.CompiledModel, x: Tensor) -> None:
    F.cross_entropy(model.train()(x), torch.tensor([1, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name


def test_training_and_evaluation(model: sapool.CompiledModel, x: Tensor) -> None:
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        y = model(x)
        assert torch.equal(model(x), y)
        assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
        model.train()
        assert all(module.training for module in model.modules())
        assert not torch.equal(model(x), y)
    learned = [name for name in before if "running" in name or "tracked" in name]  # others are constants, as of a blur
    assert not any(torch.equal(model.get_buffer(name), before[name]) for name in learned)
    # Each image is evaluated for itself.
    with torch.no_grad():
        y = model.eval()(x)
        assert difference(model(x[:1]), y[:1]) < 1e-5


def test_state_dict_round_trip(model: sapool.CompiledModel, x: Tensor) -> None:
    with torch.no_grad():
        y = model(x)
        other = sapool.compile(str(model.architecture), num_classes=CLASSES, image_size=SIZE).eval()
        assert not torch.equal(other(x), y)
        assert list(other.state_dict()) == list(model.state_dict())
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(x), y)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_copies(model: sapool.CompiledModel, duplicate: Any, x: Tensor) -> None:
    twin = duplicate(model)
    assert isinstance(twin, sapool.CompiledModel)
    with torch.no_grad():
        assert torch.equal(twin(x), model(x))
        next(twin.parameters()).zero_()
        assert not torch.equal(twin(x), model(x))
    assert twin.architecture == model.architecture
    assert twin.plan == model.plan
    assert twin.rewrites == model.rewrites
    assert twin.refusals == model.refusals
    assert twin.feature_info == model.feature_info
    assert stamps(twin) == stamps(model)
    assert twin.code == model.code
    assert not twin.training
    assert duplicate(model.train()).training


def test_synchronised_batch_norm(model: sapool.CompiledModel, x: Tensor) -> None:
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    with torch.no_grad():
        y = model(x)
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        assert sum(isinstance(module, nn.SyncBatchNorm) for module in converted.modules()) == norms > 0
        assert torch.equal(converted(x), y)
        # In training one process is a group of its own: outputs and statistics are those of plain batch norms.
    torch.manual_seed(3)
    z = converted.train()(x)
    plain = copy.deepcopy(compiled(str(model.architecture))).train()
    torch.manual_seed(3)
    assert torch.equal(z, plain(x))
    assert all(torch.equal(a, b) for a, b in zip(converted.buffers(), plain.buffers(), strict=True))


def test_half_precision_training(model: sapool.CompiledModel, x: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model.train()(x)
        loss = F.cross_entropy(y, torch.tensor([1, 2]))
    loss.backward()
    assert y.dtype == torch.bfloat16
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_channels_last(model: sapool.CompiledModel, x: Tensor) -> None:
    with torch.no_grad():
        y = model(x)
        z = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert difference(z, y) < 1e-4


@pytest.mark.parametrize("text", in_tiers(ARCHITECTURES, QUICK))
def test_features(text: str, x: Tensor) -> None:
    whole = compiled(text)
    values = _values(whole, x)
    everything = [values[feature.node] for feature in whole.feature_info]
    assert len(everything) == (8 if "mobilenet" in text else 4)
    chosen = (len(everything) - 1, 1, 2)
    for out_indices in (None, chosen):
        model = sapool.compile(
            text, num_classes=CLASSES, image_size=SIZE, features_only=True, out_indices=out_indices
        ).eval()
        loaded = model.load_state_dict(whole.state_dict(), strict=False)
        assert loaded.missing_keys == []
        with torch.no_grad():
            maps = model(x)
        assert isinstance(maps, list)
        wanted = chosen if out_indices else range(len(everything))
        assert [f.name for f in model.feature_info] == [whole.feature_info[i].name for i in wanted]
        for feature, seen, index in zip(model.feature_info, maps, wanted, strict=True):
            side = SIZE // feature.reduction
            assert seen.shape == (2, feature.channels, side, side)
            assert torch.equal(seen, everything[index])


def _values(model: fx.GraphModule, x: Tensor) -> dict[str, Any]:
    """What every node of a graph computes, in a copy each, because some work in place."""
    values: dict[str, Any] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            values[n.name] = value.clone() if isinstance(value, Tensor) else value
            return value

    with torch.no_grad():
        Watch(model).run(x)
    return values


@pytest.mark.parametrize(
    "text", in_tiers((f"resnet18-{kind}-1222" for kind in POOLINGS if kind not in RIVALS), ["resnet18-dfmixp-1222"])
)
def test_compiled_by_torch(text: str, x: Tensor) -> None:
    model = compiled(text)
    with torch.no_grad():
        assert torch.equal(torch.compile(model, backend="aot_eager", fullgraph=True)(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["dyresnet18-dfmixp-1222"])
def test_trained_as_compiled_by_torch(text: str, x: Tensor) -> None:
    model = copy.deepcopy(compiled(text)).train()
    twin = copy.deepcopy(model)
    for module, run in ((model, model), (twin, torch.compile(twin, backend="aot_eager", fullgraph=True))):
        torch.manual_seed(4)
        F.cross_entropy(run(x), torch.tensor([1, 2])).backward()
        assert all(p.grad is not None for p in module.parameters())
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-3 * p.grad.norm() + 1e-6, name  # type: ignore[operator, union-attr]


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="inductor needs a C++ compiler")
@pytest.mark.slow
def test_compiled_by_inductor(x: Tensor) -> None:
    model = compiled("resnet18-nlp_reduced-1222")
    with torch.no_grad():
        assert difference(torch.compile(model, fullgraph=True)(x), model(x)) < 1e-4


@pytest.mark.parametrize("text", in_tiers(FAMILIES, ["resnet18-dfmixp-1222", "prepool-nlp-4-resnet18-nlp-1222"]))
def test_exported(text: str, x: Tensor) -> None:
    """To rounding: a program that leaves PyTorch doesn't widen narrow heads as the model does for speed."""
    model, x = compiled(text).double(), x.double()
    exported = torch.export.export(model, (x,)).module()
    other = torch.randn_like(x)
    with torch.no_grad():
        assert difference(exported(x), model(x)) < 1e-14
        assert difference(exported(other), model(other)) < 1e-14


@pytest.mark.parametrize(
    ("text", "builder"),
    [
        ("resnet18-skip-1222", "resnet18"),
        ("resnet50-skip-1222", "resnet50"),
        ("mobilenet-skip-1222121", "mobilenet_v2"),
    ],
)
def test_identity_law(text: str, builder: str, x: Tensor) -> None:
    ours = sapool.compile(text, num_classes=CLASSES, image_size=SIZE)
    published = models.get_model(builder, num_classes=CLASSES)
    _vary_statistics(published)
    assert list(ours.state_dict()) == list(published.state_dict())
    assert ours.rewrites == ()
    ours.load_state_dict(published.state_dict())
    assert torch.equal(ours.eval()(x), published.eval()(x))
    outputs = []
    for module in (ours, published):
        torch.manual_seed(5)  # for mobilenet's dropout
        outputs.append(module.train()(x))
        outputs[-1].square().sum().backward()
    assert torch.equal(*outputs)
    pairs = zip(ours.named_parameters(), published.named_parameters(), strict=True)
    assert all(torch.equal(p.grad, q.grad) for (_, p), (_, q) in pairs)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), published.buffers(), strict=True))


def test_a_dynamic_network_in_fake_tensor_mode():
    with FakeTensorMode():
        model = sapool.compile("dyresnet18-gaussian_pool-1222", image_size=64, num_classes=3)
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
