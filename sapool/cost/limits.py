"""What a network may need: memory, multiply-accumulates, parameters, a device. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sapool.catalogue.devices import DEVICES
from sapool.cost.assumptions import BYTES, Assumptions, assumptions_of
from sapool.cost.budget import DIGITS, parse_size
from sapool.errors import InputError, brief, did_you_mean

_COUNTS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_NAMES = ("memory", "macs", "parameters", "device")
_DEVICE_SRAM, _DEVICE_FLASH = "the device's SRAM", "the device's flash"


@dataclass(frozen=True)
class Needs:
    """What a network needs for one image.

    Attributes:
        arena, peak: bytes of activations, in one buffer and at the least.
        macs, parameters: multiply-accumulates and parameters.
    """

    arena: int
    peak: int
    macs: int
    parameters: int


@dataclass(frozen=True)
class Excess:
    """A limit that is exceeded.

    Attributes:
        what: which one.
        needed, limit: how much is needed, and how much there is.
    """

    what: str
    needed: int
    limit: int

    def __str__(self) -> str:
        return f"{self.what}: {self.needed:,} needed, {self.limit:,} allowed"


@dataclass(frozen=True)
class Limits:
    """What a network may need; None where there is no limit.

    Attributes:
        memory: bytes of the arena.
        macs, parameters: how many.
        device: a board's name; activations are counted as its runtime runs them.
    """

    memory: int | None = None
    macs: int | None = None
    parameters: int | None = None
    device: str | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in _NAMES)

    @property
    def assumptions(self) -> Assumptions:
        """What memory is counted under."""
        return assumptions_of(self.device) if self.device else Assumptions()

    def shares(self, needs: Needs) -> dict[str, tuple[int, int]]:
        """By the name of each limit, what is needed and what is allowed."""
        found: dict[str, tuple[int, int]] = {}
        for name, needed in (("memory", needs.arena), ("macs", needs.macs), ("parameters", needs.parameters)):
            if (limit := getattr(self, name)) is not None:
                found[name] = (needed, limit)
        if self.device is not None:
            board = DEVICES.find(self.device)
            found[_DEVICE_SRAM] = (needs.arena, board.sram)
            found[_DEVICE_FLASH] = (needs.parameters * BYTES[self.assumptions.dtype], board.flash)
        return found

    def exceeded(self, needs: Needs) -> list[Excess]:
        """The limits that a network exceeds, the worst first."""
        over = [Excess(name, *pair) for name, pair in self.shares(needs).items() if pair[0] > pair[1]]
        return sorted(over, key=lambda excess: -excess.needed / excess.limit)


def parse_count(text: str) -> int:
    """A number such as `50M` or `1.5K`; thousands, millions and billions.

    Raises:
        InputError: it isn't one.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)\s*", text, re.IGNORECASE)
    if found is None:
        raise InputError(f"'{text}' isn't a number of things; expected for instance 50M, 1.5K or 200000")
    if len(found[1]) > DIGITS:
        raise InputError(f"{brief(text)} is too large a number; expected for instance 50M")
    return int(float(found[1]) * _COUNTS[found[2].upper()])


def read_limits(given: Mapping[str, Any]) -> Limits:
    """Limits as a file or a command line writes them: sizes as `256KB`, counts as `50M`, or numbers.

    Raises:
        InputError: an unknown one, or one that can't be.
    """
    for name in given:
        if name not in _NAMES:
            raise InputError(f"budget.{name}: there is no such limit; there are {', '.join(_NAMES)}."
                             + did_you_mean(name, _NAMES))  # fmt: skip
    numbers = {
        name: (parse_size if name == "memory" else parse_count)(str(given[name]))
        for name in ("memory", "macs", "parameters")
        if given.get(name) is not None
    }
    if empty := [name for name, value in numbers.items() if value < 1]:
        raise InputError(f"budget.{empty[0]}: nothing fits into nothing")
    device = given.get("device")
    return Limits(**numbers, device=None if device is None else DEVICES.find(str(device)).name)
