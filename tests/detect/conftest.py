"""mmcv's operators are served before any test imports them."""

from __future__ import annotations

import sapool.detect  # noqa: F401
