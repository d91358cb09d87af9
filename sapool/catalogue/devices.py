"""The catalogue of devices: what microcontroller boards hold, and what their runtimes do. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar

from sapool.catalogue.registry import Registry

Runtime = Literal["tflm", "tinyengine"]
T = TypeVar("T", bound=Callable[..., object])

KB, MB = 1024, 1024**2


@dataclass(frozen=True)
class Device:
    """A board, or a chip of which there are many.

    Attributes:
        name: as users spell it.
        title: the board and its chip.
        sram: bytes of the largest stretch of memory that one arena can lie in.
        flash: bytes for code and weights.
        runtime: what runs networks there; it decides what is done in place.
        source: where the figures are from.
        target: `module:name` of what another package declared it on, else "".
        rank: where it stands in listings.
    """

    name: str
    title: str
    sram: int
    flash: int
    runtime: Runtime = "tflm"
    source: str = ""
    target: str = ""
    rank: int = 100


@dataclass(frozen=True)
class RuntimeFacts:
    """What a runtime does with activations.

    Attributes:
        title: its name.
        inplace_depthwise: whether depthwise convolutions overwrite their operand channel by channel.
        source: where that is from.
    """

    title: str
    inplace_depthwise: bool
    source: str


RUNTIMES: Mapping[str, RuntimeFacts] = MappingProxyType(
    {
        "tflm": RuntimeFacts(
            "TensorFlow Lite Micro",
            inplace_depthwise=False,
            source="David et al., MLSys 2021, on memory management; MicroArenaBufferAlignment() in its sources",
        ),
        "tinyengine": RuntimeFacts(
            "TinyEngine", inplace_depthwise=True, source="Lin et al., MCUNet, NeurIPS 2020, section 3.2"
        ),
    }
)
"""Every runtime by its name. The arena is aligned to 16 bytes for either."""

_BOARDS = (
    Device(
        "nano_33_ble", "Arduino Nano 33 BLE Sense (nRF52840)", 256 * KB, 1 * MB,
        source="Nordic Semiconductor, nRF52840 Product Specification, Memory",
    ),
    Device(
        "nrf5340", "nRF5340 DK, application core", 512 * KB, 1 * MB,
        source="Nordic Semiconductor, nRF5340 Product Specification, Memory",
    ),
    Device(
        "pico", "Raspberry Pi Pico (RP2040)", 264 * KB, 2 * MB,
        source="Raspberry Pi, Pico Product Brief: 264 KB on-chip SRAM, 2 MB on-board flash",
    ),
    Device(
        "pico_2", "Raspberry Pi Pico 2 (RP2350)", 520 * KB, 4 * MB,
        source="Raspberry Pi, Pico 2 Product Brief: 520 KB on-chip SRAM, 4 MB on-board flash",
    ),
    Device(
        "esp32", "ESP32-DevKitC (ESP32-WROOM-32)", 320 * KB, 4 * MB,
        source="Espressif, ESP32 Datasheet: 520 KB SRAM, of which ESP-IDF gives data 320 KB; WROOM-32: 4 MB flash",
    ),
    Device(
        "esp32_s3", "ESP32-S3-DevKitC-1 (ESP32-S3-WROOM-1-N8)", 480 * KB, 8 * MB,
        source="Espressif, ESP32-S3 Technical Reference Manual, internal memory: of 512 KB SRAM the data bus reaches "
        "480 KB in one stretch; ESP32-S3-WROOM-1 Datasheet: N8 has 8 MB flash",
    ),
    Device(
        "sparkfun_edge", "SparkFun Edge (Apollo3 Blue)", 384 * KB, 1 * MB,
        source="Ambiq, Apollo3 Blue SoC Datasheet: up to 1 MB flash, 384 KB RAM",
    ),
    Device(
        "stm32f412", "STM32F412 Discovery", 256 * KB, 1 * MB, "tinyengine",
        source="STMicroelectronics, DS11139 (STM32F412xE/xG); MCUNet's first device",
    ),
    Device(
        "stm32f746", "STM32F746 Discovery", 320 * KB, 1 * MB, "tinyengine",
        source="STMicroelectronics, DS10916 (STM32F745xx, STM32F746xx); MCUNet's second device",
    ),
    Device(
        "stm32f767", "Nucleo-F767ZI (STM32F767)", 512 * KB, 2 * MB,
        source="STMicroelectronics, DS11532 (STM32F765xx, STM32F767xx)",
    ),
    Device(
        "stm32l4r5", "Nucleo-L4R5ZI (STM32L4R5)", 640 * KB, 2 * MB,
        source="STMicroelectronics, DS12023 (STM32L4R5xx); MLPerf Tiny's reference board",
    ),
    Device(
        "stm32h743", "Nucleo-H743ZI, OpenMV Cam H7 (STM32H743)", 512 * KB, 2 * MB, "tinyengine",
        source="STMicroelectronics, DS12110 (STM32H742xI/G, STM32H743xI/G): 512 KB AXI SRAM, 1 MB of RAM in all",
    ),
    Device(
        "portenta_h7", "Arduino Portenta H7 (STM32H747), without its SDRAM", 512 * KB, 2 * MB,
        source="STMicroelectronics, DS12930 (STM32H747xI/G): 512 KB AXI SRAM, 1 MB of RAM in all",
    ),
    Device(
        "teensy_41", "Teensy 4.1 (i.MX RT1062)", 512 * KB, 8 * MB,
        source="PJRC, Teensy 4.1 technical information: 1024 KB RAM in two halves, 7936 KB flash",
    ),
)  # fmt: skip

DEVICES: Registry[Device] = Registry(
    "device", decorator="register_device", entry=Device, group="sapool.devices", given=_BOARDS
)
"""Every device by its name, in the order of listings."""


def register_device(
    name: str, *, title: str, sram: int, flash: int, runtime: Runtime = "tflm", source: str = "", rank: int = 100
) -> Callable[[T], T]:
    """Declares a device: decorates a class or function, whose docstring can say more; nothing is called.

        @register_device("my_board", title="My Board (STM32F446)", sram=128 * 1024, flash=512 * 1024, source="DS10693")
        class MyBoard: ...

    Args:
        name: how users spell it.
        title: the board and its chip.
        sram: bytes of the largest stretch of memory that one arena can lie in.
        flash: bytes for code and weights.
        runtime: a key of `RUNTIMES`.
        source: where the figures are from.
        rank: where it stands in listings; from 100 on behind our own.

    Raises:
        ValueError: the name is taken, or can't be one, or there is no such runtime.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"there is no runtime '{runtime}'; there are {', '.join(RUNTIMES)}")
    return DEVICES.register(name, title=title, sram=sram, flash=flash, runtime=runtime, source=source, rank=rank)
