"""Configs of mmengine that are read as data: nothing in them is executed or imported."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import mmcv.ops
from mmdet.utils import register_all_modules
from mmengine import registry
from mmengine.config import Config

from sapool.digests import check_text, remark
from sapool.errors import InputError

# What the text of a config is made of that is no program.
_PLAIN = (
    *(ast.Module, ast.Assign, ast.Name, ast.Load, ast.Store, ast.Constant, ast.keyword),
    *(ast.Dict, ast.List, ast.Tuple, ast.UnaryOp, ast.USub),
)

_SCOPES = ("", "mmdet", "mmcv", "mmengine")


def is_data(text: object) -> bool:
    """Whether a program only assigns plain data, `dict(...)` included."""
    try:
        program = ast.parse(text) if isinstance(text, str) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return program is not None and all(
        isinstance(node, _PLAIN) or (isinstance(node, ast.Call) and _is_dict(node)) for node in ast.walk(program)
    )


def read_literal(path: Path) -> Config:
    """A config that was written by `write_config`, read without running it.

    Raises:
        InputError: it can't be read, is more than plain data, or names a type that nothing registered.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from None
    if not check_text(text, path):
        remark(path)
    try:
        values = _assigned(text) if is_data(text) else None
    except ValueError:
        values = None
    if values is None:
        raise InputError(f"{path} isn't read: it is more than plain data, and nothing of a run is executed")
    known = _registered()
    for name in _types(values):
        scope, _, own = name.rpartition(".")
        if own not in known or scope not in _SCOPES:
            raise InputError(f"{path} isn't used: there is no registered type '{name}'")
    return Config(values)


def _assigned(text: str) -> dict[str, Any] | None:
    """The values of a program's names; None where it does anything else."""
    values = {}
    for statement in ast.parse(text).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(statement, ast.Assign) or not isinstance(target, ast.Name) or len(statement.targets) > 1:
            return None
        values[target.id] = _value(statement.value)
    return values


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key): _value(value) for key, value in pairs if key is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    return ast.literal_eval(node)


def _types(value: Any) -> list[str]:
    """Every `type` in nested settings; mmengine looks each up, and imports what it doesn't know."""
    if isinstance(value, dict):
        own = [str(value["type"])] if "type" in value else []
        return own + [name for item in value.values() for name in _types(item)]
    return [name for item in value for name in _types(item)] if isinstance(value, (list, tuple)) else []


def _registered() -> set[str]:
    """The names of what mmengine, mmcv and mmdet build, and of mmcv's operators, which go by type as well."""
    register_all_modules(init_default_scope=False)
    known = set(dir(mmcv.ops))
    todo = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    while todo:
        one = todo.pop()
        known |= set(one.module_dict)
        todo += one.children.values()
    return known


def _is_dict(call: ast.Call) -> bool:
    named = all(keyword.arg is not None for keyword in call.keywords)
    return isinstance(call.func, ast.Name) and call.func.id == "dict" and not call.args and named
