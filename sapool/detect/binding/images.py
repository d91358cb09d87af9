"""Reading images: one that is cut off is refused, where OpenCV would fill the rest with grey."""

from __future__ import annotations

from typing import Any

import mmcv
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS

from sapool.errors import InputError
from sapool.runs.images import read_whole


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
