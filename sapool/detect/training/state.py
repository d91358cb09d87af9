"""What a detector's training is made of besides what mmengine saves: where it is, and what its parts remember."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

KEY = "sapool"
_PLAIN = (bool, int, float, str, type(None))
_DEPTH = 3

Memory = dict[str, Any]


def memory_of(runner: Runner) -> Memory:
    """Plain attributes of a detector's parts, by their paths: the size of the last batch, histories, thresholds."""
    return {path: getattr(owner, name) for path, owner, name in _attributes(_model(runner))}


def recall(runner: Runner, memory: Memory) -> None:
    """Gives a detector's parts the attributes that they had; nothing that they don't have, or of another kind."""
    for path, owner, name in list(_attributes(_model(runner))):
        if path in memory and _alike(memory[path], getattr(owner, name)):
            setattr(owner, name, memory[path])


def _alike(value: Any, before: Any) -> bool:
    """Whether a value may take another's place: both numbers, both lists, or one of them nothing yet."""
    if not is_plain(value) or isinstance(before, str):  # a text is a setting, and nothing that is remembered
        return False
    kinds = [
        float if isinstance(each, (int, float)) and not isinstance(each, bool) else type(each)
        for each in (value, before)
    ]
    return kinds[0] is kinds[1] or type(None) in kinds


def gradients_of(runner: Runner) -> dict[str, Any]:
    """Gradients that wait for more batches before they make a step; empty where none do."""
    wrapper = runner.optim_wrapper
    count = getattr(wrapper, "_accumulative_counts", 1)
    if count == 1 or wrapper._inner_count % count == 0:
        return {}
    named = _model(runner).named_parameters()
    return {name: p.grad.detach().cpu().clone() for name, p in named if p.grad is not None}


def give_gradients(runner: Runner, gradients: dict[str, Any]) -> None:
    """Gives parameters the gradients that they had."""
    for name, parameter in _model(runner).named_parameters():
        if name in gradients and gradients[name].shape == parameter.shape:
            parameter.grad = gradients[name].to(parameter.device, parameter.dtype)


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, or nested lists of such."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return isinstance(value, _PLAIN)


def _model(runner: Runner) -> nn.Module:
    model: nn.Module = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model


def _attributes(model: nn.Module) -> Iterator[tuple[str, Any, str]]:
    for path, module in model.named_modules():
        yield from _of(module, path, _DEPTH)


def _of(owner: Any, path: str, depth: int) -> Iterator[tuple[str, Any, str]]:
    """Plain attributes of an object, and of mmdet's own in it that are no modules, such as assigners."""
    for name, value in vars(owner).items():
        inner = value if isinstance(value, list) else [value]
        if is_plain(value):
            if name != "training":
                yield f"{path}:{name}", owner, name
        elif depth > 1:
            for number, part in enumerate(inner):
                if type(part).__module__.startswith("mmdet.") and not isinstance(part, nn.Module):
                    yield from _of(part, f"{path}:{name}[{number}]", depth - 1)
