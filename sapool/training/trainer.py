"""Lightning's trainer, as a recipe wants it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, LearningRateMonitor
from lightning.pytorch.profilers import SimpleProfiler

from sapool.errors import InputError
from sapool.recipes.settings import Train
from sapool.runs.folder import is_main
from sapool.training.callbacks import SeedPerStep
from sapool.training.checkpoint_io import WholeFileCheckpointIO
from sapool.training.loggers import make_loggers
from sapool.training.sync_norm import CPUSync
from sapool.training.temperature import TemperatureAnnealing

# What Lightning warns of that isn't so here, or isn't to be changed.
_WARNINGS = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*deprecated.*",
    ".*number of training batches.*smaller than the logging interval.*",
    ".*Checkpoint directory.*",
    ".*`lr_scheduler.step.*` before `optimizer.step.*",
    ".*epoch parameter in `scheduler.step.*",
    ".*GPU available but not used.*",
    ".*srun.*command is available.*",
)


def check_accelerator(settings: Train) -> None:
    """Refuses a machine's part that this one hasn't, before anything is begun.

    Raises:
        InputError: names the setting, and what there is.
    """
    wanted = settings.accelerator
    if wanted not in ("auto", "cpu") and not has_accelerator(wanted):
        raise InputError(
            f"train.accelerator: this machine has no {wanted} that torch can use; train.accelerator=auto takes what "
            "there is"
        )
    there = torch.cuda.device_count()
    if not there or wanted in ("cpu", "mps"):
        return
    devices = settings.devices
    if isinstance(devices, int) and devices > there:
        raise InputError(f"train.devices: {devices} GPUs, and this machine has {there}")
    if not isinstance(devices, int) and max(devices) >= there:
        raise InputError(f"train.devices: GPU {max(devices)}, and this machine's are 0 to {there - 1}")


def has_accelerator(name: str) -> bool:
    """Whether this machine has what a recipe calls gpu or mps."""
    mps = torch.backends.mps.is_available()
    return mps if name == "mps" else torch.cuda.is_available() or mps


def make_trainer(
    settings: Train,
    folder: Path,
    callbacks: Sequence[Callback],
    *,
    first_step: int = 0,
    validate_every: int = 1,
) -> L.Trainer:
    """The trainer of a run.

    Args:
        settings: the recipe's.
        folder: where it logs to.
        callbacks: beside those that every training has.
        first_step: the step it goes on from.
        validate_every: epochs between validations.
    """
    trainer = L.Trainer(
        **_settings(settings),
        callbacks=[
            *_callbacks(settings),
            *callbacks,
            LearningRateMonitor("step"),
        ],
        logger=make_loggers(settings.logger, folder, first_step=first_step, main=is_main()),
        max_epochs=settings.epochs,
        check_val_every_n_epoch=validate_every,
        profiler=SimpleProfiler(folder, "profile") if settings.profile else None,
        default_root_dir=folder,
        enable_progress_bar=False,
    )
    # Lightning leaves training on SIGTERM without a checkpoint; the run's own callback does that, and for all signals.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def make_dry_trainer(settings: Train, callbacks: Sequence[Callback]) -> L.Trainer:
    """A trainer that keeps nothing and stops after two batches."""
    return L.Trainer(
        **_settings(settings),
        callbacks=[*_callbacks(settings), *callbacks],
        fast_dev_run=2,
        enable_progress_bar=False,
    )


def _callbacks(settings: Train) -> list[Callback]:
    callbacks: list[Callback] = [SeedPerStep(settings.seed)]
    if settings.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=settings.ema))
    if settings.temperature_epochs:
        callbacks.append(TemperatureAnnealing(settings.temperature_epochs))
    return callbacks


def _settings(settings: Train) -> dict[str, Any]:
    many = settings.processes > 1 or settings.strategy != "auto"
    on_cpu = settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available())
    own_sync = settings.sync_batchnorm and many and on_cpu
    return {
        "accelerator": settings.accelerator,
        # Numbers are GPUs'; on the CPU there are as many processes.
        "devices": settings.processes // settings.nodes if on_cpu else _listed(settings.devices),
        "num_nodes": settings.nodes,
        "strategy": settings.strategy,
        "precision": settings.precision,
        "sync_batchnorm": settings.sync_batchnorm and many and not on_cpu,
        "accumulate_grad_batches": settings.accumulate,
        "gradient_clip_val": settings.clip_norm,
        "plugins": [WholeFileCheckpointIO(), *([CPUSync()] if own_sync else [])],
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": settings.log_every,
        "use_distributed_sampler": False,  # the data module has its own
    }


def _listed(devices: int | tuple[int, ...]) -> int | list[int]:
    return devices if isinstance(devices, int) else list(devices)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Meanwhile Lightning says nothing about itself, and float32 matrices may be multiplied in TensorFloat-32."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    precision = torch.get_float32_matmul_precision()
    with warnings.catch_warnings():
        for message in _WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
