"""Checkpoints on disk: whole or not there, and read without running what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from sapool.digests import add_to_archive
from sapool.errors import InputError
from sapool.runs.failures import unwritable
from sapool.weights.atomic import replacing
from sapool.weights.files import read_checkpoint


class WholeFileCheckpointIO(CheckpointIO):
    """Where Lightning's checkpoints go to and come from.

    Lightning's own writes into the system's temporary folder and moves the file, which isn't atomic from one file
    system to another, and reads with pickle unless it is told otherwise.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes beside `path`, then renames.

        Raises:
            WorkError: it can't be written; what was at `path` is still there.
        """
        try:
            with replacing(path) as temporary:
                _write(checkpoint, temporary, path)
        except InputError as error:
            raise unwritable(path, error) from None

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads plain data and tensors, whatever it is asked for.

        Raises:
            WeightsError: the file is no checkpoint, is damaged, or would run code.
        """
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def _write(checkpoint: dict[str, Any], temporary: Path, path: str | Path) -> None:
    try:
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
        add_to_archive(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        # Asked now, while the half-written file still fills the disk: torch's error doesn't tell the system's reason.
        raise unwritable(path, error) from None
