"""Image files: damaged, cut off, of every mode, and with sizes in their heads that they don't have."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from sapool.runs.images import MOST_PIXELS, check_image, read_image, read_pixels
from tests.hostile import Kind

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"),
    "BMP": ("1", "L", "P", "RGB"),
    "PPM": ("1", "L", "RGB"),
}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a bit a pixel that says it is so large, and has as much of it as fits into a few kilobytes."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * min((width // 8 + 1) * height, 1 << 24), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def whole(random: Random) -> bytes:
    """An image of some mode and size, sometimes with an orientation, sometimes of several pictures."""
    kind = random.choice(list(MODES))
    mode = random.choice(MODES[kind])
    height, width = random.randrange(1, 40), random.randrange(1, 40)
    numbers = np.frombuffer(random.randbytes(3 * height * width), dtype=np.uint8).reshape(height, width, 3)
    image = Image.fromarray(numbers[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(numbers)
    image = image if mode == "I;16" else image.convert(mode)
    options: dict[str, object] = {}
    if kind in ("PNG", "JPEG", "WEBP") and random.random() < 0.3:
        exif = Image.Exif()
        exif[274] = random.randrange(0, 12)
        options["exif"] = exif
    if kind in ("GIF", "WEBP", "TIFF", "PNG") and mode in ("RGB", "P") and random.random() < 0.1:
        options |= {"save_all": True, "append_images": [image.rotate(90)]}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def some_image(random: Random, folder: Path) -> bytes:
    if random.random() < 0.1:
        return bomb(random.choice((1, 7, 8000, 20000, 2**31 - 1)), random.choice((1, 9000, 20000, 2**31 - 1)))
    content = bytearray(whole(random))
    match random.randrange(5):
        case 0:
            del content[random.randrange(len(content)) :]
        case 1 | 2:
            for _ in range(random.choice((1, 1, 2, 20))):
                content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        case 3:
            at = random.randrange(min(len(content), 64))
            content[at : at + 4] = random.randbytes(4)
        case _:
            content += random.randbytes(random.randrange(3))
    return bytes(content)


def read_everywhere(content: bytes, folder: Path) -> None:
    """What one reader takes all of them take, with the same pixels."""
    path = folder / "given.png"
    path.write_bytes(content)
    pixels = read_pixels(path)
    check_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.size <= 3 * MOST_PIXELS
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), pixels)


KINDS = (
    Kind(
        "images",
        make=some_image,
        judge=read_everywhere,
        corpus=(
            b"",
            b"no image",
            bomb(20000, 20000),
            bomb(1 << 20, 1),
            b"%!PS-Adobe-3.0 EPSF-3.0\n",
            b"II*\0" + b"\xff" * 64,
        ),
        rounds=130,
        quick=20,
        seconds=20,
    ),
)
