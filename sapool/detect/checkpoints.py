"""Checkpoints of detectors: read with `weights_only=True`, with the few names that mmengine's need allowed."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner.checkpoint import get_torchvision_models
from pydantic import ValidationError
from torch import Tensor

from sapool.catalogue.builders import published
from sapool.detect.binding.literal import is_data
from sapool.detect.training.contents import Contents
from sapool.errors import InputError, WeightsError, did_you_mean
from sapool.ir.plan import Plan
from sapool.runs.folder import recipe_of
from sapool.weights.authors import in_our_names
from sapool.weights.files import checked, first_problem, read_checkpoint, state_dict_in

_LONGEST_NAME = 4096
SCHEMES = ("https://", "http://")

BEST = "coco/bbox_mAP"
"""The figure that chooses a run's best epoch."""

POINTER, STOPPED = "last_checkpoint", "stopped.pth"
"""What names the checkpoint to go on from, for mmengine too; and that of a run that was stopped inside an epoch."""


def allow_history() -> None:
    """Lets `torch.load` read the history of losses and scores that mmengine keeps in its checkpoints, and no more.

    A `HistoryBuffer` holds two numpy arrays of numbers, and its own methods: these are pickled as calls of `getattr`,
    for which a function stands in that gives nothing else.
    """
    rebuild, scalar = (value.__reduce__()[0] for value in (np.zeros(0), np.float64(0)))
    numbers = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    allowed = [HistoryBuffer, np.ndarray, np.dtype, rebuild, scalar, *numbers]
    torch.serialization.add_safe_globals([*allowed, (_statistic, "builtins.getattr")])


def _statistic(owner: object, name: str) -> Any:
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"Unsupported class: an attribute {name} of {owner!r}")
    return getattr(owner, name)


@HOOKS.register_module()
class DropConfig(Hook):  # type: ignore[misc]
    """Takes from a checkpoint, when it has been loaded, the config that mmengine would run as a program on resuming.

    Nothing is needed of it: a run goes on by its own config. Every config that is bound has this hook, so that it works
    with mmengine's own commands too.
    """

    priority = "HIGHEST"

    def after_load_checkpoint(self, runner: object, checkpoint: dict[str, Any]) -> None:
        """Called by mmengine's runner before it uses what it has loaded."""
        if isinstance(meta := checkpoint.get("meta"), dict):
            meta.pop("config", None)


def pretrained(source: str, keys: Iterable[str], plan: Plan, prefix: str | None = None) -> dict[str, Tensor]:
    """The weights that an `init_cfg` names, under the backbone's own keys.

    Args:
        source: a file, an address, "DEFAULT", "torchvision://NAME", or the folder of a classifier's finished run.
        keys: of the network that gets them.
        plan: of that network.
        prefix: take only the keys under it, and cut it off.

    Raises:
        WeightsError: they can't be got or read, or nothing has that prefix.
    """
    if source == "DEFAULT":
        return published(plan.backbone)
    file = _of_run(Path(source)) if Path(source).is_dir() else _fetched(source)
    state = state_dict_in(read_checkpoint(file), file)
    if prefix:
        prefix = prefix.rstrip(".") + "."
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if not state:
            raise WeightsError(f"{source} has no keys that begin with '{prefix}'")
    return in_our_names(state, keys, plan)


def _of_run(path: Path) -> Path:
    """The best model of a classifier's run."""
    recipe, best = recipe_of(path), path / "model.pt"
    if not best.is_file():
        raise WeightsError(
            f"the run of {recipe.architecture} in {path} isn't finished: it has no model.pt; sapoolc train --resume "
            f"--run-dir {path}"
        )
    return best


def _fetched(source: str) -> Path:
    """The file that holds a checkpoint; addresses are downloaded to where torch keeps such files."""
    name = source.removeprefix("torchvision://")
    if name != source:
        known = get_torchvision_models()
        if name not in known:
            raise WeightsError(f"{source}: torchvision has no weights of that name." + did_you_mean(name, known))
        source = known[name]
    if not source.startswith(SCHEMES):
        return Path(source)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(urlparse(source).path).name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(source, str(file), progress=False)
        except OSError as error:
            raise WeightsError(
                f"{source} can't be fetched ({error}); download it elsewhere and give the file's path"
            ) from None
    return file


def last_of(path: Path) -> Path | None:
    """The checkpoint to go on from in a run's folder, or None where nothing was saved yet."""
    pointer = path / POINTER
    named = pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.is_file() else ""
    if 0 < len(named) < _LONGEST_NAME and "\0" not in named and (path / Path(named).name).is_file():
        return path / Path(named).name
    # A process killed between the checkpoint and the pointer leaves the pointer behind, or empty.
    found = epochs_in(path)
    return found[-1] if found else None


def epochs_in(path: Path) -> list[Path]:
    """The checkpoints of finished epochs in a run's folder, the last one last."""
    return _by_number(path.glob("epoch_*.pth"))


def bests(path: Path) -> list[Path]:
    """The checkpoints of best epochs, the best one last: a process killed while it wrote that leaves another."""
    return _by_number(path.glob("best_*.pth"))


def best_name(epoch: int) -> str:
    """The file of a best epoch, as mmengine calls it."""
    return f"best_{BEST.replace('/', '_')}_epoch_{epoch}.pth"


def _by_number(files: Iterable[Path]) -> list[Path]:
    numbered = [(int(end), file) for file in files if (end := file.stem.rpartition("_")[2]).isdecimal()]
    return [file for _, file in sorted(numbered)]


def best_of(path: Path) -> Path:
    """The checkpoint of a run's best epoch, or its last one where nothing was measured yet.

    Raises:
        InputError: there is none.
    """
    found = bests(path)
    best = found[-1] if found else last_of(path)
    if best is None:
        raise InputError(f"the run in {path} has no checkpoint yet; let it finish its first epoch")
    return best


def read_run_checkpoint(path: Path, architecture: str) -> dict[str, Any]:
    """A checkpoint of a detector's run, checked before mmengine reads it.

    mmengine would run the config that a checkpoint carries as a program; `DropConfig` takes it away. One that is more
    than assignments of plain data is refused besides: no training wrote it.

    Raises:
        WeightsError: it can't be read, is of another architecture, or carries code.
    """
    content = read_checkpoint(path, ours=True)
    try:
        held = Contents.model_validate(content)
    except ValidationError as error:
        raise WeightsError(
            f"{path} isn't a checkpoint of a detector's run ({first_problem(error)}); nothing was changed"
        ) from None
    checked(content["state_dict"], path)
    config = held.meta.cfg
    if not is_data(config) or not is_data(held.meta.config):
        raise WeightsError(f"{path} isn't loaded: the config in it holds code; nothing was changed")
    if f"arch='{architecture}'" not in config:
        raise WeightsError(f"{path} isn't of {architecture}, which the run's recipe names; nothing was changed")
    return content
