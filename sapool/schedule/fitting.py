"""Whether a network fits a device, and what to blame where it doesn't."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sapool.catalogue.devices import DEVICES, Device
from sapool.cost.budget import to_blame
from sapool.cost.memory import Memory
from sapool.cost.micro import MicroMemory

Word = Literal["fits", "tight", "too big"]

ROOM = 0.8
"""The part of a memory beyond which it is tight: stack, drivers, the runtime and its code want some as well."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a network on a device.

    Attributes:
        device: the board.
        word: `fits`, `tight` (more than `ROOM` of a memory), or `too big`.
        arena, weights: bytes that it takes of the device's SRAM and flash.
        blame: the parts that need more than the SRAM, with their bytes, the worst first.
        made_of: of what these consist, where a runtime's own share is in them; "" where it isn't.
    """

    device: Device
    word: Word
    arena: int
    weights: int
    blame: tuple[tuple[str, int], ...] = ()
    made_of: str = ""

    def __str__(self) -> str:
        sram, flash = self.device.sram, self.device.flash
        said = (
            f"{self.word}: of {self.device.name}'s {sram:,} bytes of SRAM, {self.arena:,} are taken "
            f"({self.arena / sram:.0%}), and of {flash:,} of flash, {self.weights:,} ({self.weights / flash:.0%})"
        )
        said += f" ({self.made_of})" if self.made_of else ""
        return said + "".join(f"; {part} needs {needed:,}" for part, needed in self.blame[:3])


def fit(memory: Memory, weights: int, device: str, parts: Mapping[str, str] | None = None) -> Verdict:
    """Whether activations and weights fit a device.

    Args:
        memory: of a model, or `Schedule.memory()`.
        weights: bytes of the parameters.
        device: a name of `sapool.catalogue.devices.DEVICES`.
        parts: which part each of the model's nodes belongs to, for the blame (`sapool.analysis.parts.parts_of`).

    Raises:
        InputError: there is no such device.
    """
    board = DEVICES.find(device)
    blame = tuple(to_blame(memory, board.sram, parts or {}))
    return Verdict(board, _word(board, memory.arena, weights), memory.arena, weights, blame)


def fit_micro(found: MicroMemory, device: str) -> Verdict:
    """Whether a network fits a device as TensorFlow Lite Micro runs it.

    Raises:
        InputError: there is no such device.
    """
    board = DEVICES.find(device)
    blame = [(name, held) for name, _, held in sorted(found.steps, key=lambda step: -step[2]) if held > board.sram]
    bands = f", {found.bands}" if found.bands else ""
    made_of = (
        f"as TensorFlow Lite Micro runs it{bands}: activations {found.head:,}, its own about {found.tail:,}; weights "
        "with their scales, and about its code"
    )
    return Verdict(board, _word(board, found.sram, found.flash), found.sram, found.flash, tuple(blame), made_of)


def _word(board: Device, sram: int, flash: int) -> Word:
    share = max(sram / board.sram, flash / board.flash)
    return "too big" if share > 1 else "tight" if share > ROOM else "fits"
