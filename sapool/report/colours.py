"""One colour for each rule, the same in every picture; told apart by eyes that don't see all colours, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

# Okabe and Ito's palette, lightened so that black text stands out on it: at least 7 to 1.
_OURS: Mapping[str, str] = MappingProxyType(
    {
        "insert_pools": "#56b4e9",
        "insert_prepool": "#8fd3ff",
        "restride": "#f0b429",
        "filter_strides": "#f7d58c",
        "make_dynamic": "#e5a0c8",
        "adapt_input": "#4fc3a1",
        "adopt_dialect": "#ff9e6d",
        "select_outputs": "#d9d06b",
        "cancel_attention": "#b9a7f5",
        "fold_norms": "#b8c97a",
    }
)
_OTHERS = ("#c8b6a6", "#9fc5c1", "#e8a3a3", "#a9b8e8", "#cfe0a0")
PLAIN = "#e9ecef"
"""Of what is the backbone's own."""


def colours(rules: Sequence[str]) -> dict[str, str]:
    """A colour for each rule; passes of other packages take those that are left, in order."""
    strangers = [rule for rule in rules if rule not in _OURS]
    found = {rule: _OTHERS[at % len(_OTHERS)] for at, rule in enumerate(strangers)}
    return {rule: _OURS.get(rule) or found[rule] for rule in rules}
