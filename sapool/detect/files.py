"""Files that mmengine writes, whole or not there."""

from __future__ import annotations

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from sapool.digests import add_to_archive
from sapool.errors import InputError
from sapool.runs.failures import unwritable
from sapool.weights.atomic import replacing

BACKEND = "whole"


class WholeFileBackend(LocalBackend):  # type: ignore[misc]
    """mmengine's backend of local files, which writes beside a file and renames.

    mmengine's own writes in place: a process killed in the middle of a checkpoint leaves half of one under its name.
    """

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Writes a file whole.

        Raises:
            WorkError: it can't be written; what was there before still is.
        """
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(filepath) as temporary:
                temporary.write_bytes(obj)
                if str(filepath).endswith(".pth"):
                    add_to_archive(temporary)
        except InputError as error:
            raise unwritable(filepath, error) from None


def register() -> None:
    """Makes the backend known to mmengine's configs as `backend_args=dict(backend="whole")`."""
    register_backend(BACKEND, WholeFileBackend, force=True)
