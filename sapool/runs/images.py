"""Reading image files, the one way that every task does: as they are meant to be seen, or in a sentence why not.

Nothing is decoded before its size is known, and only formats whose decoders are part of Pillow: another format's would
start a program.
"""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sapool.errors import InputError, first_line
from sapool.runs.channels import stored, with_channels

MOST_PIXELS = 2**26
"""The largest image that is decoded: a square of 8192 pixels' side takes 200 MB."""

LONGEST = 256
"""How many times as long as wide an image may be: when its short side is given a size, the long one grows with it."""

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# Cameras put a second picture behind the first.
_FIRST_OF_MANY = ("MPO",)

# What whole files end with: JPEG's end of image, PNG's last chunk.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


class UnreadableImageError(InputError):
    """An image that is there and isn't read.

    Attributes:
        path: its file.
        reason: what is wrong and what to do, without a subject.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"the image {path} {reason}")

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str | Path, str]]:  # from a worker
        return UnreadableImageError, (self.path, self.reason)


def read_image(path: str | Path, channels: int = 3) -> Tensor:
    """An image, red first where it is coloured: uint8 (channels, H, W), turned as its camera says.

    Raises:
        InputError: as `read_stored`; or it can't have so many channels.
    """
    return with_channels(read_stored(path), channels)


def read_stored(path: str | Path) -> Tensor:
    """An image in the channels that it has: uint8 (1 to 4, H, W), turned as its camera says.

    Raises:
        InputError: no such file, not an image, damaged or cut off, too large, several pictures in one, or pixels of
            more than 16 bits.
    """
    try:
        return _read(path)
    except UnreadableImageError as error:
        raise InputError(f"{path} can't be read as an image: it {error.reason}") from None


def read_pixels(path: str | Path, *, turned: bool = True) -> np.ndarray:
    """An image in three channels, red first: uint8 (H, W, 3).

    Args:
        path: the file.
        turned: whether to turn it as its EXIF orientation says.

    Raises:
        InputError: as `read_stored`.
    """
    return with_channels(_read(path, turned=turned), 3).permute(1, 2, 0).contiguous().numpy()


def _read(path: str | Path, *, turned: bool = True) -> Tensor:
    with _opened(path) as image:
        image.load()
        return stored(ImageOps.exif_transpose(image) if turned else image)


def check_image(path: str | Path, *, cut: bool = True) -> None:
    """Looks at an image without decoding it, unless it doesn't end as a whole one does.

    Args:
        path: the file.
        cut: whether to look at its end.

    Raises:
        InputError: as `read_stored`, of what can be known.
    """
    with _opened(path) as image:
        if cut and not _ends_well(Path(path)):
            image.load()


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """An image whose head has been read and can be decoded. What goes wrong meanwhile becomes a sentence."""
    try:
        # A pipe would wait for a writer, and a device give zeros for ever.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise InputError(f"{path} isn't a file; name the image itself")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow remarks on files that it then refuses, and on sizes
            with Image.open(path, formats=_FORMATS) as image:
                _check_head(image, path)
                yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"no such image: {path} can't be read: No such file or directory") from None
    except UnidentifiedImageError:
        raise UnreadableImageError(path, "isn't an image, or is empty; mend it or take it out") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(path, f"is too large: {first_line(error)}; make it smaller") from None
    except OSError as error:
        if error.errno is None:  # Pillow's own
            raise _damaged(path, error) from None
        raise InputError(f"the image {path} can't be read: {error.strerror}; put it back or take it out") from None
    except ValueError as error:
        if "null byte" in str(error):
            raise InputError(f"no such image: {str(path)!r}") from None
        raise _damaged(path, error) from None
    except Exception as error:  # whatever bytes that are no image make a decoder stumble over
        raise _damaged(path, error) from None


def _check_head(image: Image.Image, path: str | Path) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UnreadableImageError(path, f"has {width}x{height} pixels, more than {MOST_PIXELS:,}; make it smaller")
    if max(width, height) > LONGEST * min(width, height):
        raise UnreadableImageError(path, f"has {width}x{height} pixels, which is too long; cut it into pieces")
    frames = 1 if image.format in _FIRST_OF_MANY else getattr(image, "n_frames", 1)
    if frames > 1:
        raise UnreadableImageError(path, f"has {frames} pictures in it; save one of them by itself")
    if image.mode in ("I", "F") and image.format != "PNG":
        raise UnreadableImageError(path, "has pixels of 32 bits; save it with 8 or 16")


def _damaged(path: str | Path, error: Exception) -> UnreadableImageError:
    return UnreadableImageError(path, f"is damaged ({first_line(error)[:100]}); mend it or take it out")


def _ends_well(path: Path) -> bool:
    """Whether a file ends as a whole image does, from its first and last bytes alone."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0, io.SEEK_END)
        file.seek(max(file.tell() - 16, 0))
        content = head + file.read()
    return any(content.startswith(start) and content.endswith(end) for start, end in _ENDS.items())
