"""`python -m sapool.detect SCRIPT ...` runs one of mmdet's scripts where mmcv's extension isn't installed.

mmdet's `tools/train.py` needs no more than `custom_imports` in its config. Others of its tools import mmcv's operators
before they read a config.
"""

from __future__ import annotations

import runpy
import sys

import sapool.detect  # noqa: F401 - serves the operators

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m sapool.detect SCRIPT [ARGUMENT ...]")
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
