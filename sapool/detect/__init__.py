"""Compiled networks as backbones of mmdet's detectors, with nothing to compile.

Importing this is all that a config of mmdet's own needs: `custom_imports = dict(imports=["sapool.detect"])`. It serves
mmcv's operators where their extension isn't installed, registers `SapoolBackbone`, and lets mmengine's checkpoints be
read without switching `weights_only` off.

Raises (on import): MissingExtraError, the packages of the extra `detect` aren't installed.
"""

from __future__ import annotations

from sapool.errors import require_extra

require_extra("detect", "detection", ("mmcv", "mmengine", "mmdet", "pycocotools"))

# Before anything imports mmdet, whose modules look for mmcv's operators when they are imported.
from sapool.detect.mmcv_ops import extension  # noqa: E402

extension.install()

from sapool.detect.backbone import SapoolBackbone  # noqa: E402
from sapool.detect.binding.grey import GreyDataPreprocessor  # noqa: E402
from sapool.detect.binding.images import LoadWholeImage  # noqa: E402
from sapool.detect.checkpoints import allow_history  # noqa: E402
from sapool.detect.files import register  # noqa: E402
from sapool.detect.repairs import apply_repairs  # noqa: E402
from sapool.detect.training.hooks import KeepCheckpoints  # noqa: E402
from sapool.detect.training.loop import ResumableLoop  # noqa: E402

allow_history()
apply_repairs()
register()

__all__ = ["GreyDataPreprocessor", "KeepCheckpoints", "LoadWholeImage", "ResumableLoop", "SapoolBackbone"]
