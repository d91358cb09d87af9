"""One reader for all images: what is handled, and what is refused in a sentence before it is decoded."""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sapool.errors import InputError
from sapool.runs.images import LONGEST, MOST_PIXELS, check_image, read_image, read_pixels

COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(path: Path, side: int = 20000) -> Path:
    """A PNG of one colour: 48 kB, and 1.2 GB when it is decoded."""
    rows = zlib.compressobj(9)
    line = b"\0" * (side // 8 + 1)
    packed = b"".join(rows.compress(line) for _ in range(side)) + rows.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def test_a_bomb_is_not_decoded(tmp_path):
    path = bomb(tmp_path / "bomb.png")
    assert path.stat().st_size < 100_000
    program = "import sys; from sapool.runs.images import read_pixels; read_pixels(sys.argv[1])"
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)),
    )  # fmt: skip
    assert "UnreadableImageError: the image" in done.stderr
    assert "is too large" in done.stderr
    for read in (check_image, read_pixels):
        with pytest.raises(InputError, match=f"has 10000x10000 pixels, more than {MOST_PIXELS:,}; make it smaller"):
            read(bomb(path, 10000))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("P", "png"), ("P", "gif"), ("1", "png"), ("LA", "png"), ("RGBA", "webp"), ("CMYK", "tif")],
)
def test_colours(mode, suffix, tmp_path):
    image = Image.fromarray(COLOURS).convert(mode)
    image.save(tmp_path / f"x.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    pixels = read_pixels(tmp_path / f"x.{suffix}")
    assert (pixels.dtype, pixels.shape) == (np.uint8, (4, 6, 3))
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))
    assert torch.equal(read_image(tmp_path / f"x.{suffix}"), torch.from_numpy(pixels).permute(2, 0, 1))
    check_image(tmp_path / f"x.{suffix}")


def test_cmyk_of_a_camera(tmp_path):
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    red.convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    assert np.abs(read_pixels(tmp_path / "x.jpg").astype(int) - (200, 30, 30)).max() < 12


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight(suffix, tmp_path):
    values = np.array([[0, 255, 256], [30000, 65280, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    assert read_pixels(tmp_path / f"x.{suffix}")[..., 0].tolist() == [[0, 0, 1], [117, 255, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_camera_says(orientation, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(COLOURS).save(tmp_path / "x.png", exif=exif)
    assert read_pixels(tmp_path / "x.png").shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
    assert np.array_equal(read_pixels(tmp_path / "x.png", turned=False), COLOURS)
    if orientation == 6:
        assert np.array_equal(read_pixels(tmp_path / "x.png"), np.rot90(COLOURS, -1))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_several_pictures_in_one(suffix, tmp_path):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    for read in (read_pixels, check_image):
        with pytest.raises(InputError, match="has 3 pictures in it; save one of them by itself"):
            read(tmp_path / f"x.{suffix}")


def test_odd_shapes_and_wide_pixels(tmp_path):
    Image.new("L", (LONGEST * 2 + 2, 2)).save(tmp_path / "long.png")
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    for name, said in (("long.png", "which is too long"), ("float.tif", "pixels of 32 bits")):
        with pytest.raises(InputError, match=said):
            check_image(tmp_path / name)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png", "/dev/zero"):
        with pytest.raises(InputError, match="isn't a file"):
            read_pixels(tmp_path / name)
    for name in ("none.png", "a\0b.png"):
        with pytest.raises(InputError, match="no such image"):
            read_pixels(tmp_path / name)


def test_formats_whose_decoders_are_programs_are_no_images(tmp_path):
    (tmp_path / "x.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="isn't an image"):
        read_pixels(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp"])
def test_damage_ends_in_a_sentence_or_in_an_image(suffix, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.kron(COLOURS, np.ones((8, 8, 1), dtype=np.uint8))).save(buffer, _format(suffix))
    whole, draw = buffer.getvalue(), np.random.default_rng(1)
    path, refused = tmp_path / f"x.{suffix}", []
    for number in range(60):
        content = bytearray(whole)
        if number % 3 == 0:
            content = content[: draw.integers(0, len(content))]
        else:
            for _ in range(number % 7 + 1):
                content[draw.integers(0, len(content))] ^= 1 << int(draw.integers(0, 8))
        path.write_bytes(content)
        try:
            assert read_pixels(path).dtype == np.uint8
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 5
    assert all(str(path) in said and len(said) < 400 + len(str(path)) for said in refused)


def _format(suffix: str) -> str:
    return {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
