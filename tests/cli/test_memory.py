"""What the command line says of memory: streamed and plain, in a budget, on a device."""

from __future__ import annotations

import json
import re

import pytest
import torch

import sapool
from sapool.catalogue.devices import DEVICES
from sapool.cli.memory import MemoryCheck
from sapool.cost.comparison import compare
from sapool.cost.micro import micro_memory
from sapool.schedule.planner import plan
from tests.commands import sapoolc

TEXT = "mobilenet-skip-1222121"
SMALL = ("--image-size", 96)


@pytest.fixture(scope="module")
def arenas() -> tuple[int, int]:
    """Of that network at that size, plain and in as little as possible."""
    with torch.device("meta"):
        cost = compare(sapool.compile(TEXT, image_size=96))
    return cost.memory.arena, plan(cost.graph, cost.memory.assumptions).arena


def figures(out: str) -> dict[str, list[str]]:
    """The rows of the table against the unmodified backbone."""
    rows = out.split("against the unmodified backbone\n")[1].split("\n\n", maxsplit=1)[0].splitlines()
    return {cells[0]: cells[1:] for cells in (re.split(r"  +", row.strip()) for row in rows)}


def test_both_networks_are_streamed(arenas: tuple[int, int]) -> None:
    plain, low = arenas
    out, _ = sapoolc("compile", "prepool-lip-4-mobilenet-skip-1222121", *SMALL, "--stream")
    rows = figures(out)
    assert rows["arena, streamed"][1] == f"{low:,}"
    assert rows["streamed against plain"][1] == f"{plain:,}"
    assert rows["streamed against plain"][0] == rows["arena, streamed"][0]
    assert float(rows["peak, streamed"][2][:-1]) < float(rows["peak activations, bytes"][2][:-1])
    assert re.search(
        r"^streamed: \d+ of \d+ operations in .* bands of rows; by order alone the peak is", out, re.MULTILINE
    )
    assert "prepool-raises-peak" in out
    assert re.search(r"streamed \(--stream\) it is [\d.]+ times", out)


def test_as_data(arenas: tuple[int, int]) -> None:
    plain, low = arenas
    data = json.loads(sapoolc("compile", TEXT, *SMALL, "--stream", "--budget", plain - 1, "--json")[0])
    streaming = data["streaming"]
    assert (data["memory"]["arena"], streaming["arena"], streaming["unmodified"]["arena"]) == (plain, low, low)
    assert data["memory"]["arena_bound"] <= plain
    assert streaming["arena_bound"] <= low
    assert streaming["macs"] == streaming["budget"]["macs"] == data["cost"]["total"]["macs"]
    assert streaming["budget"]["fits"]
    assert low <= streaming["budget"]["arena"] < plain
    assert all(region["bands"] > 1 and region["operations"] for region in streaming["regions"])
    assert "streaming" not in json.loads(sapoolc("compile", TEXT, *SMALL, "--json")[0])


def test_a_budget_uses_what_it_needs(arenas: tuple[int, int]) -> None:
    plain, low = arenas
    out, _ = sapoolc("compile", TEXT, *SMALL, "--budget", plain)
    assert f"in {plain:,} bytes: as it stands; arena {plain:,}" in out
    out, _ = sapoolc("compile", TEXT, *SMALL, "--budget", plain - 1)
    found = re.search(r"in [\d,]+ bytes: \d+ of \d+ operations in .*; arena ([\d,]+)", out)
    assert found is not None
    assert low <= int(found[1].replace(",", "")) < plain
    _, err = sapoolc("compile", TEXT, *SMALL, "--budget", low // 2, code=1)
    assert err.startswith(f"sapoolc: activations of {low:,} bytes exceed {low // 2:,}, ")
    assert re.search(r": stage\d \([\d,]+\)|: stem \([\d,]+\)", err)


def test_a_device_gives_a_verdict() -> None:
    out, err = sapoolc(
        "compile", "timm:mobilenetv2_035-skip-1222121", *SMALL, "--num-classes", 10, "--device", "pico_2"
    )
    assert re.search(
        r"^fits: of pico_2's 532,480 bytes of SRAM, [\d,]+ are taken \(\d+%\), and of .* flash", out, re.MULTILINE
    )
    assert err == ""
    assert "depthwise convolutions in place" not in out
    out, err = sapoolc("compile", "resnet18-lip-1222", *SMALL, "--device", "stm32f746", code=1)
    assert out.splitlines()[-1].startswith("too big: of stm32f746's 327,680 bytes")
    assert err == "sapoolc: STM32F746 Discovery is too small\n"
    assert "depthwise convolutions in place" in out


def test_on_tensorflow_lite_micro_its_own_memory_counts() -> None:
    words = ("compile", "resnet18-lip-1222", "--image-size", 32, "--num-classes", 10, "--device", "teensy_41")
    out, err = sapoolc(*words, code=1)
    assert "as TensorFlow Lite Micro runs it: activations 24,576, its own about" in out
    assert "in 419,430 bytes" not in out  # nothing is streamed there
    assert err == "sapoolc: Teensy 4.1 (i.MX RT1062) is too small\n"
    _, err = sapoolc(*words, "--budget", "64KB", code=1)
    assert "the network takes" in err
    assert "which exceed 65,536: activations 24,576" in err
    _, err = sapoolc("compile", "resnet18-dfmnlp-1222", *words[2:], code=1)
    assert err.startswith("note: dfmnlp can't be written as .tflite")


def test_our_schedule_is_not_asked_where_a_file_has_bands_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("sapool.schedule.streaming.plan")  # whoever asks for one fails
    with torch.device("meta"):
        model = sapool.compile("resnet18-lip-1222", image_size=32)
    cost = compare(model)
    check = MemoryCheck(model, cost, cost.memory.assumptions, None, 1000, streamed=True, in_own_bands=True)
    assert (check.limit, check.scheduled, check.verdict, check.unmet()) == (None, None, None, [])
    assert check.activations(integer=True) == 1000
    ours = MemoryCheck(model, cost, cost.memory.assumptions, None, 1000, streamed=True, in_own_bands=False)
    assert ours.limit == 1000
    with pytest.raises(NameError):
        ours.unmet()
    pico = DEVICES.find("pico")
    board = MemoryCheck(model, cost, cost.memory.assumptions, pico, 100_000, streamed=True, in_own_bands=True)
    assert board.activations(integer=True) == micro_memory(model, streamed=True, budget=100_000).head
    assert board.activations(integer=False) == 100_000  # a file of floats isn't what the board was asked about


def test_flags_go_before_what_a_device_does() -> None:
    words = ("compile", TEXT, *SMALL, "--num-classes", 10, "--device", "stm32h743", "--json")
    assumed = json.loads(sapoolc(*words, code=1)[0])
    assert assumed["memory"]["assumptions"]["inplace_depthwise"]
    assert assumed["device"]["device"] == "stm32h743"
    assert assumed["device"]["weights"] == assumed["cost"]["total"]["parameters"]
    assert not json.loads(sapoolc(*words, "--no-inplace-depthwise", code=1)[0])["memory"]["assumptions"][
        "inplace_depthwise"
    ]


def test_the_timeline_of_a_schedule() -> None:
    out, _ = sapoolc("inspect", TEXT, *SMALL, "--timeline", "--stream")
    title, header, *rows = out.splitlines()
    assert title.startswith("timeline (int8, streaming attention, input and output included; ")
    assert header.split("  ")[0] == "part"
    with torch.device("meta"):
        cost = compare(sapool.compile(TEXT, image_size=96))
    schedule = plan(cost.graph, cost.memory.assumptions)
    assert len(rows) == len(schedule.net.operations) - 1
    assert any(row.endswith("#" * 40) and f"{schedule.peak:,}" in row for row in rows)
    data = json.loads(sapoolc("inspect", TEXT, *SMALL, "--stream", "--json")[0])
    assert max(step["live"] + step["scratch"] for step in data["timeline"]) == schedule.peak


def test_devices_are_listed_with_their_source() -> None:
    devices = json.loads(sapoolc("list", "devices", "--json")[0])
    assert {"name": "stm32f746", "SRAM": "320 KB", "flash": "1024 KB", "runtime": "tinyengine"}.items() <= next(
        device for device in devices if device["name"] == "stm32f746"
    ).items()
    assert all(device["source"] for device in devices)


def test_a_device_that_there_is_not() -> None:
    _, err = sapoolc("compile", TEXT, "--device", "picco", code=2)
    assert "there is no device 'picco'" in err
    assert "Did you mean 'pico'?" in err
