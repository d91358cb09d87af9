"""Devices: what is known of boards and runtimes, and what becomes of a network there."""

from __future__ import annotations

import pytest

from sapool.catalogue.devices import DEVICES, RUNTIMES, register_device
from sapool.cost.assumptions import Assumptions, assumptions_of
from sapool.cost.memory import Memory, Step
from sapool.cost.micro import MicroMemory
from sapool.errors import InputError
from sapool.schedule.fitting import fit, fit_micro


def memory(arena: int, **parts: int) -> Memory:
    steps = tuple(Step(f"{part}_conv", part, "conv2d", needed, 0) for part, needed in parts.items())
    return Memory(steps, arena, (), Assumptions())


def test_every_board_is_sourced_and_plausible() -> None:
    assert len(DEVICES) >= 12
    for name, device in DEVICES.items():
        assert device.name == name
        assert 64 * 1024 <= device.sram < device.flash, name
        assert device.source, name
        assert device.runtime in RUNTIMES
    assert (DEVICES["stm32f746"].sram, DEVICES["stm32f746"].flash) == (320 * 1024, 1024**2)


def test_a_runtime_decides_what_is_in_place() -> None:
    assert assumptions_of("stm32f746") == Assumptions(inplace_depthwise=True)
    assert assumptions_of("pico", dtype="fp16") == Assumptions(dtype="fp16")
    with pytest.raises(InputError, match=r"there is no device 'picco'; there are .*Did you mean 'pico'"):
        assumptions_of("picco")


@pytest.mark.parametrize(
    ("arena", "weights", "word"),
    [
        (100_000, 500_000, "fits"),
        (230_000, 500_000, "tight"),
        (100_000, 900_000, "tight"),
        (262_145, 500_000, "too big"),
        (1, 1_048_577, "too big"),
    ],
)
def test_verdicts(arena: int, weights: int, word: str) -> None:
    verdict = fit(memory(arena, stem=arena), weights, "nano_33_ble")
    assert (verdict.word, verdict.arena, verdict.weights) == (word, arena, weights)
    assert str(verdict).startswith(f"{word}: of nano_33_ble's 262,144 bytes of SRAM, {arena:,} are taken")


def test_the_blame() -> None:
    verdict = fit(
        memory(400_000, stem=100_000, layer1=400_000, layer2=300_000), 1000, "nano_33_ble", {"layer1": "stage1"}
    )
    assert verdict.blame == (("stage1", 400_000), ("layer2", 300_000))
    assert str(verdict).endswith("; stage1 needs 400,000; layer2 needs 300,000")


@pytest.mark.parametrize(("head", "word"), [(100_000, "fits"), (200_000, "tight"), (250_000, "too big")])
def test_a_runtimes_own_share_counts(head: int, word: str) -> None:
    found = MicroMemory(head, (("conv", "conv2d", head), ("worst", "conv2d", 300_000)), 30_000, 500_000)
    verdict = fit_micro(found, "nano_33_ble")
    assert (verdict.word, verdict.arena, verdict.weights) == (word, head + 30_000, 500_000)
    assert f"activations {head:,}, its own about 30,000" in str(verdict)
    assert verdict.blame == (("worst", 300_000),)


def test_a_device_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DEVICES, "_added", dict(DEVICES._added))

    @register_device("test_board", title="Test Board", sram=1000, flash=2000, runtime="tinyengine")
    class Board:
        pass

    assert DEVICES["test_board"].sram == 1000
    assert fit(memory(900), 100, "test_board").word == "tight"
    with pytest.raises(ValueError, match="no runtime 'none'"):
        register_device("other", title="", sram=1, flash=1, runtime="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'pico' is taken"):
        register_device("pico", title="", sram=1, flash=1)(Board)
    DEVICES.__dict__.pop("_entries", None)
