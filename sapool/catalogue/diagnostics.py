"""The codes of diagnostics, which command lines and recipes name. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from sapool.errors import InputError, did_you_mean

CODES: Mapping[str, str] = MappingProxyType(
    {
        "cancelled-attention": "window normalisation cancels a pool's attention",
        "one-token": "a pool's attention has a single token",
        "odd-embedding": "headfix gives a pool's attention another width than its map has",
        "lost-rows": "a pool drops rows or columns of its map",
        "prepool-raises-peak": "a prepool needs more memory than the backbone's own stem",
        "attention-dominates": "a pool's attention costs more than the rest of the network",
    }
)
"""Every code with what it means; each has a section in docs/diagnostics.md."""


def check_codes(codes: Iterable[str]) -> None:
    """Passes where each code is one of `CODES`.

    Raises:
        InputError: there is no such code.
    """
    for code in codes:
        if code not in CODES:
            raise InputError(
                f"there is no diagnostic '{code}'; there are {', '.join(CODES)}.{did_you_mean(code, CODES)}"
            )
