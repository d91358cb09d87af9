"""One process at a time trains in a folder. The kernel takes the lock back when the process ends, however it does."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sapool.errors import RecipeError
from sapool.runs.progress import Progress

if TYPE_CHECKING:
    from filelock import FileLock

LOCK = ".lock"
# What disks say that have no locks; some network file systems are mounted without.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


class Lock:
    """Of a folder. Processes that are forked meanwhile, such as data workers, don't have it.

    Attributes:
        progress: who hears of it.
        kept: whether it is to be kept beyond the run's beginning.
        begun: whether what it was taken for has begun.
    """

    def __init__(self) -> None:
        self.progress, self.kept, self.begun = Progress(), False, False
        self._held: FileLock | None = None
        self._made = False

    def take(self, folder: Path) -> None:
        """Takes it, unless it is had.

        Raises:
            RecipeError: somebody else has it, or the folder can't be written to.
        """
        if self._held is not None:
            return
        # Training needs it, opening a run doesn't: it comes with the extra `train`.
        from filelock import FileLock, Timeout  # noqa: PLC0415

        self._made = not (folder / LOCK).exists()
        lock = FileLock(folder / LOCK, timeout=0, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            raise RecipeError(
                f"another process is training in {folder}; wait for it, or choose another folder with --run-dir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise unusable(folder, error) from None
            self.progress.started(
                f"the disk of {folder} has no locks: nothing keeps a second process from training there"
            )
            return
        self._held = lock

    def release(self) -> None:
        """Gives it back, if it is had. A start that was refused leaves the folder as it was, killed ones' file too."""
        if self._held is not None:
            # Whoever waits for the file that goes sees that it has gone, and makes another.
            if self.begun or self._made:
                with suppress(OSError):
                    Path(self._held.lock_file).unlink(missing_ok=True)
            with suppress(OSError):
                self._held.release()
            self._held = None


def unusable(path: Path, error: OSError) -> RecipeError:
    """What to say of a folder that the system refuses."""
    return RecipeError(f"the run directory {path} can't be used: {error.strerror}; choose another with --run-dir")
