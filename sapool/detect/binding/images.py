"""Reading images for mmdet's pipelines, as everywhere else: whole ones of a bearable size, or a sentence."""

from __future__ import annotations

from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS

from sapool.errors import InputError
from sapool.runs.images import UnreadableImageError, read_pixels

# mmcv's names, and whether an image is turned as its camera says.
_COLOURS = {"color": True, "color_ignore_orientation": False}


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):  # type: ignore[misc]
    """mmcv's `LoadImageFromFile`, which refuses what `sapool.runs.images` does.

    Raises:
        InputError: the pipeline wants another number of channels than a compiled network takes; from calling it, the
            file isn't there or isn't a whole image.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if self.color_type not in _COLOURS:
            raise InputError(f"color_type: expected one of {', '.join(_COLOURS)}, not '{self.color_type}'")

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        try:
            pixels = read_pixels(results["img_path"], turned=_COLOURS[self.color_type])
        except UnreadableImageError as error:
            raise InputError(str(error)) from None  # a worker's error is made again from its text alone
        image = pixels[..., ::-1].copy()  # blue first
        results["img"] = image.astype("float32") if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results
