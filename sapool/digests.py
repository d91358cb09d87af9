"""Digests in the files that we write, so that a changed bit is an error and never a wrong number. No torch here.

One form in every file: `sapool-sha256:`, 64 digits, `:sapool`. The digest is of all bytes of the file, with its own
digits taken as zeros, so no bit is left out. It stands where each format has room for it: in a zip archive (every file
of torch) as the archive's comment, in JSON as a last key `digest`, elsewhere as a comment on the first line, lest a
file that lost its end be one that never had a digest. Who reads those formats without us sees an ordinary file.

A file is one of ours by either half of the form, and an archive with any other comment is damaged: a single changed
byte can't make a file pass for one that never had a digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sapool.errors import InputError, NoDigestWarning

KEY = "digest"
_BEFORE, _AFTER, _BLANK = b"sapool-sha256:", b":sapool", b"0" * 64
_LENGTH = len(_BEFORE) + len(_BLANK) + len(_AFTER)
_COMMENT = f"# {KEY} "
# Before it a comment's beginning, or behind it at most what closes a JSON object. Either half is enough to know it by.
_EITHER = rb"(?:sapool-sha256:(.{64}).{7}|.{14}(.{64}):sapool)"
_FIRST = re.compile(rb"\A.{9}" + _EITHER, re.DOTALL)
_LAST = re.compile(_EITHER + rb".{0,5}\Z", re.DOTALL)
_LOOKED_AT = _LENGTH + 5
_ZIP, _ZIP_END, _CHUNK = b"PK\x03\x04", b"PK\x05\x06", 1 << 20


def with_digest(text: str) -> str:
    """A text whose first line is a comment with its digest; of a format where `#` begins comments."""
    text = f"{_COMMENT}{_form()}\n{text}"
    return text.replace(_BLANK.decode(), _hashed(text.encode()), 1)


def json_with_digest(content: dict[str, Any]) -> str:
    """A JSON object with its digest as the last key."""
    text = json.dumps({**content, KEY: _form()}, indent=2) + "\n"
    return text[:-_LOOKED_AT] + text[-_LOOKED_AT:].replace(_BLANK.decode(), _hashed(text.encode()))


def add_to_archive(path: str | Path) -> None:
    """Gives a zip archive without a comment, such as `torch.save` writes, one with its digest, in place.

    Raises:
        OSError: it can't be written.
    """
    with Path(path).open("r+b") as file:
        end = file.seek(-22, 2)
        record = file.read()
        assert record.startswith(_ZIP_END), f"{path} is no zip archive without a comment"
        file.seek(end)
        file.write(record[:-2] + struct.pack("<H", _LENGTH) + _form().encode())
        file.flush()
        digits = _digest(path, end + 22 + len(_BEFORE))
        file.seek(end + 22 + len(_BEFORE))
        file.write(digits)


def check(path: str | Path) -> bool:
    """Whether a file of torch has a digest, which is right then.

    Raises:
        InputError: the digest isn't that of the file.
        OSError: the file can't be read.
    """
    with Path(path).open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(length - _LOOKED_AT, 0))
        tail = file.read()
        file.seek(0)
        head = file.read(4)
    place = _start(_LAST.search(tail))
    if place is None:
        # torch writes archives without a comment: what ends otherwise lost its end, or its digest.
        if head == _ZIP and not (tail[-22:-18] == _ZIP_END and tail[-2:] == b"\0\0"):
            raise _damaged(path)
        return False
    if _digest(path, length - len(tail) + place) != tail[place : place + 64]:
        raise _damaged(path)
    return True


def check_text(text: str | bytes, source: str | Path) -> bool:
    """The same of a text that was read from a file; `source` names it.

    Raises:
        InputError: the digest isn't that of the text.
    """
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    place = _start(_FIRST.search(content))
    if place is None:
        last = _start(_LAST.search(content, max(len(content) - _LOOKED_AT, 0)))
        if last is None:
            return False
        place = last
    if _hashed(content[:place] + _BLANK + content[place + 64 :]).encode() != content[place : place + 64]:
        raise InputError(
            f"{source} is damaged, or was changed by hand: its digest isn't that of what it holds. Take it from where "
            f"it is whole; if it was changed on purpose, take its digest out"
        )
    return True


def has_digest(path: str | Path) -> bool:
    """Whether a text file has a digest, right or not; what reads the file checks it. No where it can't be read."""
    try:
        with Path(path).open("rb") as file:
            return _FIRST.search(file.read(len(_COMMENT) + _LENGTH)) is not None
    except OSError:
        return False


def read_json(path: str | Path) -> Any:
    """What a JSON file of ours holds, without its digest; one without any is read with a warning.

    Raises:
        InputError: the digest isn't that of the file.
        OSError, ValueError: it can't be read, or isn't JSON.
    """
    text = Path(path).read_bytes()
    if not check_text(text, path):
        remark(path)
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if isinstance(content, dict):
        content.pop(KEY, None)
    return content


def remark(path: str | Path) -> None:
    """Warns that a file of ours has no digest."""
    warnings.warn(
        f"{path} has no digest: an earlier version wrote it, or it was edited. It is used as it is; whether it is "
        "damaged can't be known",
        NoDigestWarning,
        stacklevel=2,
    )


def _form() -> str:
    return (_BEFORE + _BLANK + _AFTER).decode()


def _hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _start(found: re.Match[bytes] | None) -> int | None:
    """Where the digits stand; None where there is no digest."""
    return None if found is None else found.start(1 if found[1] is not None else 2)


def _digest(path: str | Path, digits: int) -> bytes:
    """Of a file whose digest's digits begin there."""
    made = hashlib.sha256()
    for start, chunk in _chunks(path):
        first, last = max(digits - start, 0), min(digits + 64 - start, len(chunk))
        made.update(chunk if first >= last else chunk[:first] + _BLANK[: last - first] + chunk[last:])
    return made.hexdigest().encode()


def _chunks(path: str | Path) -> Iterator[tuple[int, bytes]]:
    with Path(path).open("rb") as file:
        start = 0
        while chunk := file.read(_CHUNK):
            yield start, chunk
            start += len(chunk)


def _damaged(path: str | Path) -> InputError:
    return InputError(f"{path} is damaged: its digest isn't that of what it holds; take it from where it is whole")
