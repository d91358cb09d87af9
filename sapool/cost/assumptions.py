"""What is assumed of the device on which a network's memory is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sapool.catalogue.devices import DEVICES, RUNTIMES
from sapool.errors import InputError

Dtype = Literal["int8", "fp16", "fp32"]
Attention = Literal["streaming", "full"]

BYTES: dict[str, int] = {"int8": 1, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of the device.

    Attributes:
        dtype: of every activation.
        attention: `streaming` holds one row of scores at a time, `full` all of them (heads × tokens²).
        io: whether the network's input and output count.
        inplace_depthwise: whether a depthwise convolution overwrites its operand channel by channel.
    """

    dtype: Dtype = "int8"
    attention: Attention = "streaming"
    io: bool = True
    inplace_depthwise: bool = False

    def __post_init__(self) -> None:
        for name, known in (("dtype", get_args(Dtype)), ("attention", get_args(Attention))):
            if getattr(self, name) not in known:
                raise InputError(f"{name}: expected {' or '.join(known)}, not '{getattr(self, name)}'")

    def __str__(self) -> str:
        parts = [
            self.dtype,
            f"{self.attention} attention",
            "input and output " + ("included" if self.io else "excluded"),
        ]
        return ", ".join(parts + (["depthwise convolutions in place"] if self.inplace_depthwise else []))


def assumptions_of(device: str, *, dtype: Dtype = "int8") -> Assumptions:
    """What is assumed of a device by its name: its runtime decides what is done in place.

    Raises:
        InputError: there is no such device.
    """
    return Assumptions(dtype=dtype, inplace_depthwise=RUNTIMES[DEVICES.find(device).runtime].inplace_depthwise)
