"""`.py`: a compiled model as a Python module that a person can read, edit and import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from sapool.catalogue.formats import register_format
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import InputError
from sapool.ir.site import Site
from sapool.model import CompiledModel
from sapool.poolings import Pooling
from sapool.poolings.dynamic import DynamicConv2d
from sapool.weights.atomic import write_text

_INDENT = "    "


@register_format("py", suffixes=(".py",), summary="code", plain=True, rank=2)
def write_code(model: CompiledModel, path: str | Path) -> None:
    """Writes a model's code."""
    write_text(path, source(model))


def source(model: CompiledModel) -> str:
    """Python source of a module whose class `Model` has the model's keys and computes what it computes.

    It needs torch and sapool's poolings, nothing of the compiler. Weights aren't part of it.

    Raises:
        InputError: the model is optimized, so its poolings aren't what their constructors make.
    """
    if model.origin.optimized:
        raise InputError("code is generated for models as they are trained, not for optimized ones")
    plan, options, channels = model.plan, model.plan.options, model.plan.options.in_chans
    code = model.graph.python_code("self")
    imports = sorted(
        {
            value.__name__
            for name, value in code.globals.items()
            if name in _words(code.src) and hasattr(value, "__path__")
        }
    )
    unknown = [
        name for name, value in code.globals.items() if name in _words(code.src) and not hasattr(value, "__path__")
    ]
    if unknown:
        raise InputError(f"code can't be written for {plan.architecture}: it calls {', '.join(unknown)}; write a .pt")
    tree: dict[str, Any] = {}
    for path, module in model.named_modules():
        if path and not _inside_leaf(model, path):
            _plant(tree, path.split("."), module)
    lines = [
        f"{_INDENT * 2}self.{name} = {line}"
        for name, child in tree.items()
        for line in [_expression(name, child, model, 2)]
    ]
    forward = "\n".join(_INDENT + line if line.strip() else "" for line in code.src.strip().splitlines())
    body = "\n".join(lines)
    uses_pools = "build(" in body
    ours = [
        *(["from sapool.poolings import build"] if uses_pools else []),
        *(
            ["from sapool.poolings.dynamic import DynamicConv2d"]
            if "DynamicConv2d(" in body or "DynamicConv2d" in body
            else []
        ),
    ]
    returned = (
        f"feature maps {', '.join(f.name for f in model.feature_info)}"
        if plan.options.features_only
        else f"(N, {plan.options.num_classes}) logits"
    )
    heading = [
        f'"""{plan.architecture}, as compiled by sapool ({options.dialect}): (N, {channels}, H, W) to {returned}."""',
        "",
        *[f"import {name}" for name in sorted({*imports, "torch"})],
        "from torch import nn",
        *(["", *ours] if ours else []),
        "",
        "",
        "class Model(nn.Module):",
        f'{_INDENT}"""{plan.architecture}."""',
        "",
        f"{_INDENT}def __init__(self) -> None:",
        f"{_INDENT * 2}super().__init__()",
    ]
    return "\n".join(heading) + "\n" + body + "\n\n" + forward + "\n"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _inside_leaf(model: CompiledModel, path: str) -> bool:
    """Whether a module belongs to another that the graph calls as a whole."""
    parts = path.split(".")
    called = {str(node.target) for node in model.graph.nodes if node.op == "call_module"}
    return any(".".join(parts[:end]) in called for end in range(1, len(parts)))


def _plant(tree: dict[str, Any], parts: list[str], module: nn.Module) -> None:
    *parents, name = parts
    for parent in parents:
        tree = tree[parent]
    # Containers only hold names together; their own class played no part in the traced forward.
    tree[name] = module if type(module) is not nn.Module else {}


def _expression(name: str, value: nn.Module | dict[str, Any], model: CompiledModel, depth: int, path: str = "") -> str:
    path = f"{path}.{name}" if path else name
    if isinstance(value, nn.Module):
        return _constructor(path, value, model)
    inner = ",\n".join(
        f'{_INDENT * (depth + 1)}"{child}": {_expression(child, module, model, depth + 1, path)}'
        for child, module in value.items()
    )
    return f"nn.ModuleDict({{\n{inner},\n{_INDENT * depth}}})"


def _constructor(path: str, module: nn.Module, model: CompiledModel) -> str:
    if path.startswith("pools."):
        site = model.plan.site(path.split(".")[1])
        if site.pool is None:
            assert isinstance(module, Pooling)
            return f"build({site.kind!r}, {module.channels}, {module.stride})"
        return _pool(site, dynamic=model.plan.dynamic)
    if isinstance(module, DynamicConv2d):
        return f"DynamicConv2d({module.extra_repr()})"
    if not type(module).__module__.startswith("torch.nn."):
        kind = type(module).__name__
        raise InputError(f"code can't be written: the constructor call of {path}, a {kind}, isn't known; write a .pt")
    return f"nn.{module!r}"


def _pool(site: Site, *, dynamic: bool) -> str:
    assert site.pool is not None
    arguments = [repr(site.pool.kind), str(site.pool.channels), str(site.stride)]
    numbers = site.attention
    if numbers is not None:
        arguments += [f"heads={numbers.heads}", f"patch={numbers.patch}", f"embedding={numbers.embedding}"]
        if POOLINGS.find(site.pool.kind).takes_modifiers:
            arguments += [f"window={numbers.window}"]
    if dynamic:
        arguments += ["conv=DynamicConv2d"]
    return f"build({', '.join(arguments)})"
