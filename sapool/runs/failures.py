"""How training fails though its input was right, in the sentences of both engines."""

from __future__ import annotations

import os
from pathlib import Path

from sapool.errors import WorkError


def loss_is_no_number(loss: float, epoch: int, batch: int, rate: float) -> WorkError:
    """What to say when the loss became infinite or NaN.

    Args:
        loss: it.
        epoch, batch: where, from 1.
        rate: the learning rate there.
    """
    return WorkError(
        f"the loss became {loss} in epoch {epoch}, batch {batch}, at a learning rate of {rate:g}. "
        "What was saved before is kept. Lower optimizer.lr, clip gradients (train.clip_norm=1) or use "
        "train.precision=32-true."
    )


def unwritable(path: str | Path, error: Exception) -> WorkError:
    """What to say when a file of a run can't be written.

    Args:
        path: the file.
        error: the system's, or that of who wrote; it needn't tell that the disk is full.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        return WorkError(f"{path} can't be written: the folder {folder} is gone, and what was saved in it; begin again")
    why = str(error)
    try:
        state = os.statvfs(folder)
        if state.f_bavail * state.f_frsize < 1 << 20:
            why = f"no space left on the disk of {folder}"
    except OSError:
        pass
    prefix = "" if str(path) in why else f"{path} can't be written: "
    return WorkError(f"{prefix}{why}. What was saved before is kept; make room and go on with --resume.")
