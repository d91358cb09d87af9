"""What a base that somebody's run keeps may say: parts of detectors by name, and plain settings of them.

A config of mmengine reaches far: a `type` may be any importable callable, others are looked up without being called
so (`constructor`, `_scope_`), `init_cfg` reads or downloads weights, data sets unpickle what they name, visualizers and
hooks write to other machines. None of this can be told from a harmless config by what it isn't. So a config is made
anew: it has the sections that decide what is computed, with the types that are listed here; all else is mmdet's own
runtime. No text in it may be a path or an address, whatever would be done with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sapool.detect.binding.listed import (
    COLLATED,
    HOOKS,
    MODEL,
    OPTIMIZERS,
    PRETRAINED,
    SAMPLERS,
    SCHEDULES,
    TRANSFORMS,
    WRAPPERS,
)
from sapool.errors import InputError, brief

_MEASURED = ("bbox", "segm", "proposal", "proposal_fast")
_READ: tuple[str, ...] = ("pipeline", "filter_cfg", "test_mode")
_LOADER = frozenset(["batch_size", "num_workers", "persistent_workers", "pin_memory", "drop_last", "prefetch_factor"])
_SCOPES = ("", "mmdet", "mmcv", "mmengine")

# Settings whose text is looked up as a type is.
_NAMING = ("type", "ema_type")
# What reads files elsewhere; None is what it is where it isn't asked for.
_ELSEWHERE = frozenset(["backend_args", "file_client_args", "pretrained"])
_REFUSED = frozenset(["checkpoint", "constructor", "custom_imports"])
_KEY, _WORD = re.compile(r"[A-Za-z0-9_.]{1,100}"), re.compile(r"[A-Za-z0-9_+ -]{0,100}")
_DEEPEST, _MOST_ITEMS = 40, 4096
_MOST, _MOST_STEPS = 1 << 16, 1 << 31


def made_anew(values: Mapping[str, Any], path: Path) -> Config:
    """A config of what a kept base says of the detector and its training; the rest is mmdet's own.

    Args:
        values: the base's, as plain data.
        path: its file, for messages.

    Raises:
        InputError: something that a detector needs is missing, or a setting isn't one that a run may keep; names it.
    """
    try:
        sections = {name: read(values[name], name) for name, read in _SECTIONS.items() if name in values}
    except _OddError as error:
        raise InputError(f"{path} isn't used: {error}") from None
    missing = [name for name in _NEEDED if name not in sections]
    if missing:
        raise InputError(f"{path} describes no detector: it has no {missing[0]}")
    runtime = {
        "default_scope": "mmdet",
        "default_hooks": {
            "timer": {"type": "IterTimerHook"},
            "param_scheduler": {"type": "ParamSchedulerHook"},
            "sampler_seed": {"type": "DistSamplerSeedHook"},
            "visualization": {"type": "DetVisualizationHook"},
        },
        "env_cfg": {"cudnn_benchmark": False, "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        "log_level": "INFO",
        "vis_backends": [{"type": "LocalVisBackend"}],
        "visualizer": {
            "type": "DetLocalVisualizer",
            "vis_backends": [{"type": "LocalVisBackend"}],
            "name": "visualizer",
        },
        "log_processor": {"type": "LogProcessor", "window_size": 50, "by_epoch": True},
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "val_evaluator": {},
    }
    made = {**runtime, **sections}
    return Config({**made, "test_dataloader": made["val_dataloader"], "test_evaluator": made["val_evaluator"]})


class _OddError(Exception):
    """Something that a kept base may not say: where, and why."""


def _plain(value: Any, where: str, types: frozenset[str], depth: int = 0) -> Any:
    """The same settings, if they are plain ones of listed types."""
    if depth > _DEEPEST:
        raise _OddError(f"{where[:80]} is nested too deep")
    if isinstance(value, dict):
        return {
            key: _setting(key, item, f"{where}.{key}", types, depth)
            for key, item in _items(value, where)
            if not _is_pretrained(item)
        }
    if isinstance(value, (list, tuple)):
        if len(value) > _MOST_ITEMS:
            raise _OddError(f"{where} has {len(value):,} items")
        return type(value)(_plain(item, where, types, depth + 1) for item in value if not _is_pretrained(item))
    _check_leaf(value, where)
    return value


def _is_pretrained(value: Any) -> bool:
    """Whether it names weights to begin with: those of a run are in its checkpoint."""
    return isinstance(value, dict) and value.get("type") in PRETRAINED


def _items(value: dict[Any, Any], where: str) -> list[tuple[str, Any]]:
    for key in value:
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key.startswith("_"):
            raise _OddError(f"{where} has a setting {brief(key)}, which a run can't keep")
    return list(value.items())


def _setting(key: str, value: Any, where: str, types: frozenset[str], depth: int) -> Any:
    if key in _NAMING:
        scope, _, own = value.rpartition(".") if isinstance(value, str) else ("", "", None)
        if own not in types or scope not in _SCOPES:
            raise _OddError(f"{where} is {brief(value)}, which isn't among the parts of detectors that a run may name")
        return value
    if key in _REFUSED or (key in _ELSEWHERE and value is not None):
        raise _OddError(f"{where} isn't data of the run: it makes mmengine read or run something else")
    return _plain(value, where, types, depth + 1)


def _check_leaf(value: Any, where: str) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if not _WORD.fullmatch(value):
            raise _OddError(f"{where} is {brief(value)}; no setting of a kept base is a path or an address")
    elif not isinstance(value, int) and not (isinstance(value, float) and not math.isnan(value)):
        raise _OddError(f"{where} is {brief(value)}, which is no number or name")
    elif isinstance(value, int) and value != _UNBOUNDED and abs(value) > _most(where):
        raise _OddError(f"{where} is {brief(value)}, which is more than any detector needs")


def _most(where: str) -> int:
    """The largest whole number: of channels, sizes and layers; or of steps."""
    return _MOST_STEPS if where.startswith("param_scheduler") else _MOST


_UNBOUNDED = 100_000_000
"""What mmdet's heads call infinite."""


def _of(*types: frozenset[str]) -> Callable[[Any, str], Any]:
    return lambda value, where: _plain(value, where, frozenset().union(*types))


def _dictionary(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _OddError(f"{where} is {brief(value)}, and no settings")
    return value


def _model(value: Any, where: str) -> dict[str, Any]:
    given = _dictionary(value, where)
    backbone = _dictionary(given.get("backbone"), f"{where}.backbone")  # the recipe's takes its place
    rest = {key: item for key, item in given.items() if key not in ("backbone", "init_cfg", "pretrained")}
    made: dict[str, Any] = _plain(rest, where, MODEL)
    kept = {key: item for key, item in backbone.items() if key == "out_indices"}
    return {**made, "backbone": _plain(kept, f"{where}.backbone", frozenset())}


def _loader(value: Any, where: str) -> dict[str, Any]:
    made = {}
    for key, item in _dictionary(value, where).items():
        place = f"{where}.{key}"
        if key == "dataset":
            made[key] = _data_set(item, place)
        elif key in ("sampler", "batch_sampler", "collate_fn"):
            made[key] = _plain(item, place, COLLATED if key == "collate_fn" else SAMPLERS)
        elif key in _LOADER:
            made[key] = _plain(item, place, frozenset())
        else:
            raise _OddError(f"{where} has a setting {brief(key)}, which a run can't keep")
    return made


def _data_set(value: Any, where: str, depth: int = 0) -> dict[str, Any]:
    """Wrappers, and the pipeline of the data set inside; what it reads is the recipe's."""
    given = _dictionary(value, where)
    if depth > _DEEPEST:
        raise _OddError(f"{where[:80]} is nested too deep")
    inner = given.get("dataset")
    if inner is None and isinstance(given.get("datasets"), (list, tuple)) and given["datasets"]:
        inner = given["datasets"][0]
    kind = given.get("type")
    if inner is None:
        taken = {key: given[key] for key in _READ if key in given}
        return {"type": "CocoDataset", "pipeline": [], **_plain(taken, where, TRANSFORMS)}
    made = _data_set(inner, f"{where}.dataset", depth + 1)
    if not isinstance(kind, str) or kind not in WRAPPERS:
        return made
    taken = {key: given[key] for key in WRAPPERS[kind] if key in given}
    return {"type": kind, **_plain(taken, where, TRANSFORMS), "dataset": made}


def _loop(value: Any, where: str) -> dict[str, Any]:
    epochs = _dictionary(value, where).get("max_epochs")
    if epochs is not None and (type(epochs) is not int or not 0 < epochs <= _MOST):
        raise _OddError(f"{where}.max_epochs is {brief(epochs)}, and no number of epochs")
    return {} if epochs is None else {"max_epochs": epochs}


def _evaluator(value: Any, where: str) -> dict[str, Any]:
    metric = value.get("metric", "bbox") if isinstance(value, dict) else "bbox"
    if any(name not in _MEASURED for name in (metric if isinstance(metric, (list, tuple)) else [metric])):
        raise _OddError(f"{where}.metric is {brief(metric)}; what is measured is one of {', '.join(_MEASURED)}")
    return {"metric": metric}


def _hooks(value: Any, where: str) -> list[Any]:
    made: list[Any] = _plain(value if isinstance(value, list) else [value], where, HOOKS | TRANSFORMS)
    return made


def _environment(value: Any, where: str) -> dict[str, Any]:
    benchmark = _dictionary(value, where).get("cudnn_benchmark") is True
    return {"cudnn_benchmark": benchmark, "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}}


_NEEDED = ("model", "train_dataloader", "val_dataloader", "train_cfg", "optim_wrapper")
_SECTIONS: Mapping[str, Callable[[Any, str], Any]] = {
    "model": _model,
    "train_dataloader": _loader,
    "val_dataloader": _loader,
    "train_cfg": _loop,
    "val_evaluator": _evaluator,
    "optim_wrapper": _of(OPTIMIZERS),
    "param_scheduler": _of(SCHEDULES),
    "custom_hooks": _hooks,
    "env_cfg": _environment,
}
