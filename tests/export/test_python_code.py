"""Generated code: a module read back from its file has the model's keys and computes exactly what the model does."""

from __future__ import annotations

import ast
import py_compile
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sapool
from sapool.catalogue.poolings import POOLINGS
from sapool.export.python_code import source
from tests.poolings.cases import RIVALS

SIZE = 64

MODELS: list[tuple[str, dict[str, Any]]] = [
    *((f"resnet18-{kind}-1222", {}) for kind in POOLINGS if kind not in RIVALS),
    ("resnet18-hwd-1222", {}),
    ("resnet18-nlp_headfix2_nowin_reduced-1222", {}),
    ("resnet18_v2-mixp_reduced0211-1222", {}),
    ("resnet18-skip-2212", {}),
    ("resnet18-skipblur-2212", {}),
    ("prepool-nlp-4-resnet18-lip-1222", {}),
    ("prepool-skip-2-resnet18-avgp-1222", {"dialect": "paper"}),
    ("resnet18-maxp-1222", {"dialect": "paper"}),
    ("resnet18_v2-nlp-2222", {"dialect": "paper"}),
    ("resnet50-gaussian_pool-1221", {}),
    ("mobilenet-nlp_headfix2-1222121", {}),
    ("mobilenet_v2-lip-1222121", {"dialect": "paper"}),
    ("prepool-dfmixp-2-mobilenet-skip-1222121", {}),
    ("dyresnet18-nlp-1222", {}),
    ("dymobilenet-gaussian_pool-1222121", {"dialect": "paper"}),
    ("resnet18-lip-2222", {"features_only": True}),
    ("dyresnet18_v2-dfmnlp-1222", {"features_only": True, "out_indices": (2, 0)}),
    ("mobilenet-attnpool-1222121", {"features_only": True, "out_indices": (7, 3)}),
]

IDS = ["-".join([text, *map(str, options.values())]) for text, options in MODELS]


def compiled(text: str, **options: Any) -> sapool.CompiledModel:
    """A model whose batch norms have been moved from their start, where they would hide a lost scale."""
    torch.manual_seed(0)
    model = sapool.compile(text, num_classes=10, image_size=SIZE, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def written(model: sapool.CompiledModel, path: Path) -> nn.Module:
    """The module of the generated file."""
    path.write_text(source(model), encoding="utf-8")
    module = runpy.run_path(str(path))["Model"]()
    assert isinstance(module, nn.Module)
    return module


def maps(output: Tensor | list[Tensor]) -> list[Tensor]:
    return output if isinstance(output, list) else [output]


@pytest.mark.parametrize(("text", "options"), MODELS, ids=IDS)
def test_generated_module(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    model = compiled(text, **options)
    module = written(model, tmp_path / "model.py")
    ours, theirs = model.state_dict(), module.state_dict()
    assert list(theirs) == list(ours)
    assert [value.shape for value in theirs.values()] == [value.shape for value in ours.values()]
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in model.named_parameters()]
    module.load_state_dict(ours)
    module.eval()
    x = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs, expected = module(x), model(x)
    assert type(outputs) is type(expected) is (list if options.get("features_only") else Tensor)
    pairs = list(zip(maps(outputs), maps(expected), strict=True))
    assert all(torch.equal(y, z) for y, z in pairs)
    assert all(y.isfinite().all() for y, _ in pairs)


def test_generated_module_takes_other_sizes(tmp_path: Path) -> None:
    model = compiled("prepool-nlp-4-resnet18-dfmnlp-1222")
    module = written(model, tmp_path / "model.py").eval()
    module.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 70, 90, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(module(x), model(x))


@pytest.mark.parametrize("text", ["resnet18-gaussian_pool-1222", "mobilenet-nlp-1222121"])
def test_generated_module_in_training(tmp_path: Path, text: str) -> None:
    model = compiled(text).train()
    module = written(model, tmp_path / "model.py").train()
    module.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    outputs = []
    for network in (module, model):
        torch.manual_seed(2)  # for mobilenet's dropout and the Gaussian pool's noise
        outputs.append(network(x))
        outputs[-1].square().sum().backward()
    assert torch.equal(*outputs)
    pairs = list(zip(module.named_parameters(), model.named_parameters(), strict=True))
    assert all(torch.equal(p.grad, q.grad) for (_, p), (_, q) in pairs)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(module.buffers(), model.buffers(), strict=True))


@pytest.mark.parametrize(("text", "options"), MODELS[::3], ids=IDS[::3])
def test_generated_code_is_a_module_of_its_own(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    with torch.device("meta"):
        code = source(sapool.compile(text, num_classes=10, image_size=SIZE, **options))
    tree = ast.parse(code)
    path = tmp_path / "model.py"
    path.write_text(code, encoding="utf-8")
    assert py_compile.compile(str(path), cfile=str(tmp_path / "model.pyc"), doraise=True)
    # It needs torch and our poolings, nothing of the compiler; and imports nothing that it doesn't use.
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name: node.module or "" for alias in node.names}
    modules = set(imported.values())
    assert {module.partition(".")[0] for module in modules} <= {"torch", "sapool"}
    assert all(module.startswith("sapool.poolings") for module in modules if module.startswith("sapool"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert {name.partition(".")[0] for name in imported} <= used
    assert (tree.body[-1].name, ast.get_docstring(tree)) == ("Model", code.splitlines()[0].strip('"'))  # type: ignore[attr-defined]
    assert f"{sapool.parse(text)}, as compiled by sapool" in code.splitlines()[0]


def test_generated_code_says_what_is_returned() -> None:
    logits = source(compiled("resnet18-lip-1222"))
    assert "(N, 3, H, W) to (N, 10) logits" in logits
    assert "-> torch.Tensor:" in logits
    features = source(compiled("resnet18-lip-1222", features_only=True, out_indices=(3, 1)))
    assert "(N, 3, H, W) to feature maps stage4, stage2" in features
    assert "-> torch.Tensor:" not in features, "it returns a list of them"


def test_generated_code_is_plain_text() -> None:
    code = source(compiled("prepool-nlp-4-resnet18-nlp-1222"))
    assert code.endswith("\n")
    assert not code.endswith("\n\n")
    assert "\t" not in code
    assert [line for line in code.splitlines() if line != line.rstrip()] == []
    assert code == source(compiled("prepool-nlp-4-resnet18-nlp-1222"))
    # A person reads of the pool what the plan says of it.
    assert "build('nlp', 128, 2, heads=8, patch=1, embedding=128, window=True)" in code
