"""Where metrics go beside `metrics.csv`: Lightning's loggers, by their names in the recipe."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from sapool.errors import InputError, first_line
from sapool.weights.atomic import write_text

PROJECT = "sapool"
"""The project, or experiment, that runs are shown under."""


def make_loggers(names: tuple[str, ...], folder: Path, *, first_step: int = 0, main: bool = True) -> list[Logger]:
    """The loggers of a run: that of its steps, which curves are drawn of, and those that are asked for.

    Args:
        names: `tensorboard`, `wandb`, `mlflow`.
        folder: the run's; what is kept on disk goes to `logs` in it.
        first_step: the step that the run goes on from.
        main: whether this is the process that writes.

    Raises:
        InputError: one can't be begun.
    """
    loggers: list[Logger] = [CSVLogger(folder / "logs", name="csv")]
    for name in names:
        try:
            loggers.append(_MAKERS[name](folder, first_step, main))
        except InputError:
            raise
        except Exception as error:  # whatever a service's client raises
            raise InputError(f"train.logger={name} can't be begun: {first_line(error)}") from None
    return loggers


def _tensorboard(folder: Path, first_step: int, main: bool) -> Logger:
    # What was logged after the checkpoint that is resumed isn't shown twice.
    return TensorBoardLogger(folder / "logs", name="tensorboard", version="", purge_step=first_step or None)


def _wandb(folder: Path, first_step: int, main: bool) -> Logger:
    known = _identity(folder, "wandb", lambda: uuid.uuid4().hex[:8]) if main else None
    (folder / "logs").mkdir(exist_ok=True)
    return WandbLogger(
        name=folder.name, project=os.environ.get("WANDB_PROJECT", PROJECT), save_dir=folder / "logs", id=known,
        resume="allow", settings=_quiet(),
    )  # fmt: skip


def _quiet() -> Any:
    """W&B's settings under which it prints nothing of its own."""
    return import_module("wandb").Settings(silent=True)


def _mlflow(folder: Path, first_step: int, main: bool) -> Logger:
    known = _identities(folder).get("mlflow")
    own = (folder / "logs").resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:  # MLflow's folders of files are in maintenance mode
        own.mkdir(exist_ok=True)
        uri, artifacts = f"sqlite:///{own / 'mlflow.db'}", (own / "mlartifacts").as_uri()
    else:
        artifacts = None
    logger = MLFlowLogger(PROJECT, run_name=folder.name, tracking_uri=uri, run_id=known, artifact_location=artifacts)
    if main and known is None:
        _identity(folder, "mlflow", lambda: str(logger.run_id))
    return logger


_MAKERS: Mapping[str, Callable[[Path, int, bool], Logger]] = MappingProxyType(
    {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
)


def _identities(folder: Path) -> dict[str, str]:
    """By which names the services know this run."""
    try:
        content = json.loads((folder / "logs" / "services.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in content.items()} if isinstance(content, dict) else {}


def _identity(folder: Path, service: str, make: Callable[[], str]) -> str:
    """The name that a service knows this run by, the same when it is resumed."""
    known = _identities(folder)
    if service not in known:
        known[service] = make()
        (folder / "logs").mkdir(exist_ok=True)
        write_text(folder / "logs" / "services.json", json.dumps(known, indent=2) + "\n")
    return known[service]
