"""Files that are either whole or not there."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EISDIR, ENOENT, ENOTDIR
from fnmatch import fnmatchcase
from pathlib import Path

from sapool.errors import InputError

_unfinished: set[Path] = set()
_LONGEST = 200


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`; what is written there takes the place of `path` on leaving.

    On an exception the temporary file goes and `path` stays as it was.

    Raises:
        InputError: the folder isn't there or can't be written to, or the disk is full.
    """
    target = Path(path)
    try:
        # Names can have 255 bytes, of which mkstemp wants some.
        start = os.fsdecode(os.fsencode(f".{target.name}")[:_LONGEST])
        suffix = target.suffix if len(os.fsencode(target.suffix)) < 32 else ""
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{start}.", suffix=suffix)
        os.close(handle)
    except OSError as error:
        raise InputError(f"{target} can't be written: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{target} can't be written: no file has such a name") from None
    temporary = Path(name)
    _unfinished.add(temporary)
    try:
        yield temporary
        # mkstemp's file is its owner's alone; the result gets what any new file would.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"{target} can't be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


def check_writable(path: str | Path) -> None:
    """Looks whether a file could be written, before the work whose result it is to hold.

    Raises:
        InputError: its folder isn't there or can't be written to, or it is a folder itself.
    """
    target = Path(path)
    reason = None
    if target.is_dir():
        reason = EISDIR
    elif not target.parent.exists():
        reason = ENOENT
    elif not target.parent.is_dir():
        reason = ENOTDIR
    elif not os.access(target.parent, os.W_OK):
        reason = EACCES
    if reason is not None:
        raise InputError(f"{target} can't be written: {os.strerror(reason)}")


def write_text(path: str | Path, text: str) -> None:
    """Writes a whole text file (UTF-8)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_unfinished() -> None:
    """Removes what is being written, for a process that is about to end in the middle of it."""
    for temporary in tuple(_unfinished):
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path, names: Iterable[str]) -> None:
    """Removes temporary files beside `names` that a killed process left; nobody may be writing those names.

    Args:
        folder: where.
        names: of the files that were to be written, with wildcards of a shell.
    """
    for path in Path(folder).glob(".*"):
        target = leftover_of(path.name)
        if target is not None and any(fnmatchcase(target, name) for name in names):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def leftover_of(name: str) -> str | None:
    """The name that a temporary file of that name was to get, or None where it is no temporary file."""
    found = re.fullmatch(r"\.(.+?)\.[a-z0-9_]+(\.[^.]*)?", name)
    return found[1] if found and (found[2] or "") == Path(found[1]).suffix else None
