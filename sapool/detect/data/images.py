"""Reading images: one that is cut off is refused, where OpenCV would fill the rest with grey."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import mmcv
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

from sapool.errors import InputError

# What whole files end with: JPEG's end of image, PNG's last chunk.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):  # type: ignore[misc]
    """mmcv's `LoadImageFromFile`, which also refuses images that are cut off, in a sentence.

    Raises (from calling it): InputError, the file isn't there or isn't a whole image.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        content = read_whole(results["img_path"])
        image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise InputError(f"the image {results['img_path']} can't be decoded; mend it or take it out")
        results["img"] = image.astype("float32") if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


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
