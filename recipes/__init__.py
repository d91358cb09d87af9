"""The shipped recipes: TOML files beside this one."""

from __future__ import annotations

from sapool.recipes.shipped import Shipped

_SHIPPED = Shipped(__name__, "recipe")
names, text = _SHIPPED.names, _SHIPPED.text


def summaries() -> dict[str, str]:
    """Each shipped recipe's first comment line."""
    return {name: text(name).splitlines()[0].lstrip("# ") for name in names()}
