"""The right to train a run: a lock of the system's, which it takes back when the process ends, however it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from sapool.errors import WorkError

BUSY = 75
"""The exit code of a process that found another to have the lease (sysexits' EX_TEMPFAIL)."""


@dataclass
class Lease:
    """Of one run.

    Attributes:
        file: the lock.
    """

    file: Path
    _lock: FileLock = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._lock = FileLock(self.file, timeout=0, fallback_to_soft=False)

    def take(self) -> bool:
        """Takes it; False where another process has it.

        Raises:
            WorkError: the disk has no locks.
        """
        try:
            self._lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            raise WorkError(
                f"{self.file} can't be locked ({error.strerror}): without locks nothing keeps two processes from "
                "training one run; put the study's folder on another disk"
            ) from None
        return True

    def release(self) -> None:
        """Gives it back."""
        self._lock.release()

    @property
    def free(self) -> bool:
        """Whether nobody has it."""
        if not self.take():
            return False
        self.release()
        return True
