"""What a network costs: parameters, multiply-accumulates, activation memory."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """The room itself is called: `sapool.cost(model)`."""

    def __call__(self, model: Any, assumptions: Any = None) -> Any:
        """A model's cost for one image of its plan's size, beside its unmodified backbone's.

        Args:
            model: a compiled model.
            assumptions: of the device, a `sapool.cost.assumptions.Assumptions`; None for the usual ones.

        Returns:
            A `sapool.cost.comparison.Comparison`.
        """
        from sapool.cost.comparison import compare  # noqa: PLC0415 - a room that is imported for one thing loads no more

        return compare(model, assumptions)


sys.modules[__name__].__class__ = _Room
