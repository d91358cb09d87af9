"""Reading image files: whole ones only, and in a sentence what is wrong with the others."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sapool.errors import InputError
from sapool.runs.channels import stored, with_channels

# What whole files end with: JPEG's end of image, PNG's last chunk.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


def as_names(images: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """One image file, or several, as names."""
    return (str(images),) if isinstance(images, (str, Path)) else tuple(str(image) for image in images)


def read_image(path: str | Path, channels: int = 3) -> Tensor:
    """An image, red first where it is coloured: uint8 (channels, H, W).

    Raises:
        InputError: no such file, not an image, or cut off; or it can't have so many channels.
    """
    try:
        with Image.open(path) as opened:
            image = stored(opened)
    except FileNotFoundError:
        raise InputError(f"no such image: {path}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} can't be read as an image: {error}") from None
    return with_channels(image, channels)


def read_whole(path: str | Path) -> bytes:
    """The bytes of an image file that isn't cut off.

    Raises:
        InputError: no such file, not an image, or cut off.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"the image {path} can't be read: {error.strerror}; put it back or take it out") from None
    if not _ends_well(content):
        # Some whole files have something behind their end: only decoding tells.
        _decode(content, path)
    return content


def is_suspicious(path: Path) -> bool:
    """Whether a file doesn't end as a whole image does, from its first and last bytes alone."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0, io.SEEK_END)
        file.seek(max(file.tell() - 16, 0))
        return not _ends_well(head + file.read())


def _ends_well(content: bytes) -> bool:
    return any(content.startswith(start) and content.endswith(end) for start, end in _ENDS.items())


def _decode(content: bytes, path: str | Path) -> None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except UnidentifiedImageError:
        raise InputError(f"the image {path} isn't an image, or is empty; mend it or take it out") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"the image {path} is damaged ({error}); mend it or take it out") from None
