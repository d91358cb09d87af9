"""Configs of mmengine that are read as data: nothing in them is executed or imported."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from sapool.digests import check_text, remark
from sapool.errors import InputError

# What the text of a config is made of that is no program.
_PLAIN = (
    *(ast.Module, ast.Assign, ast.Name, ast.Load, ast.Store, ast.Constant, ast.keyword),
    *(ast.Dict, ast.List, ast.Tuple, ast.UnaryOp, ast.USub),
)


def is_data(text: object) -> bool:
    """Whether a program only assigns plain data, `dict(...)` included."""
    try:
        program = ast.parse(text) if isinstance(text, str) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return program is not None and all(
        isinstance(node, _PLAIN) or (isinstance(node, ast.Call) and _is_dict(node)) for node in ast.walk(program)
    )


def read_literal(path: Path) -> dict[str, Any]:
    """What a config that was written by `write_config` assigns, read without running it.

    Raises:
        InputError: it can't be read, or is more than plain data.
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
    return values


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


def _is_dict(call: ast.Call) -> bool:
    named = all(keyword.arg is not None for keyword in call.keywords)
    return isinstance(call.func, ast.Name) and call.func.id == "dict" and not call.args and named
