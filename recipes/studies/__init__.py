"""The shipped studies: TOML files beside this one."""

from __future__ import annotations

from sapool.recipes.shipped import Shipped

_SHIPPED = Shipped(__name__, "study")
names, text = _SHIPPED.names, _SHIPPED.text
