"""Files of torch: bits flipped, ends cut off, and contents that a person may have changed, their digest right."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import sapool
from sapool.digests import add_to_archive
from sapool.errors import WeightsError
from sapool.recipes.reading import read_recipe
from sapool.training.checkpoints import load_into, mark, read_run_checkpoint
from sapool.weights.files import read_checkpoint
from tests.hostile import CANARY, Kind
from tests.hostile.plans import mutate

TEXT = "resnet18-lip-2222"
Change = dict[str, Any]


@cache
def small() -> sapool.CompiledModel:
    torch.manual_seed(0)
    return sapool.compile("squeezenet1_1-lip-2221", num_classes=3, image_size=64)


@cache
def model_bytes() -> bytes:
    path = Path(f"model-{id(small())}.pt")
    sapool.save(small(), path)
    return path.read_bytes()


@cache
def content() -> dict[str, Any]:
    Path("content.pt").write_bytes(model_bytes())
    found: dict[str, Any] = torch.load("content.pt", weights_only=True)
    return found


def some_flip(random: Random, folder: Path) -> tuple[str, int, int]:
    data = model_bytes()
    near = random.choice((0, len(data) // 2, len(data) - 3000)) + random.randrange(3000)
    return "flip", random.choice((random.randrange(len(data)), near)), random.randrange(8)


def some_cut(random: Random, folder: Path) -> tuple[str, int, int]:
    data = model_bytes()
    return "cut", random.choice((random.randrange(len(data)), len(data) - 1 - random.randrange(200))), 0


def damaged(given: tuple[str, int, int], folder: Path) -> None:
    """No reader takes a damaged file, and the sentence names it."""
    how, place, bit = given
    data = bytearray(model_bytes())
    if how == "flip":
        data[place] ^= 1 << bit
    else:
        del data[place:]
    path = folder / "model.pt"
    path.write_bytes(data)
    for read in (sapool.load, read_checkpoint):
        with pytest.raises(WeightsError, match=r"model\.pt") as caught:
            read(path)
    raise caught.value


class Bomb:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__("os").system, (f"touch {CANARY}",)


def odd_tensor(random: Random, value: torch.Tensor) -> Any:
    """A tensor that isn't what it should be."""
    kinds = (torch.complex64, torch.float16, torch.float64, torch.int32, torch.bool, torch.float8_e5m2)
    match random.randrange(9):
        case 0:
            return None
        case 1:
            return value.tolist()
        case 2:
            return value.to("meta")
        case 3:
            return value.reshape(-1)
        case 4:
            return torch.zeros(()).expand(value.shape)
        case 5:
            return value.to_sparse()
        case 6:
            return torch.quantize_per_tensor(torch.zeros(value.shape), 0.1, 0, torch.qint8)
        case _:
            return value.to(random.choice(kinds))


def changed(random: Random, data: dict[str, Any]) -> dict[str, Any]:
    """Contents with a tensor or a setting of another kind, or one missing, or one too many."""
    state = dict(data["state_dict"])
    for _ in range(random.choice((0, 0, 1, 3))):
        key = random.choice(list(state))
        match random.randrange(4):
            case 0:
                del state[key]
            case 1:
                state[random.choice((f"{key}x", "\x1b[2J", 5, "a\0b"))] = state.pop(key)
            case _:
                state[key] = odd_tensor(random, state[key]) if isinstance(state[key], torch.Tensor) else None
    rest = {key: value for key, value in data.items() if key != "state_dict"}
    for _ in range(random.choice((0, 1, 1, 2))):
        rest = mutate(random, rest)
        rest = rest if isinstance(rest, dict) else {}
    if random.random() < 0.15:
        extra = (
            ("weights", "DEFAULT"),
            ("weights", f"{CANARY}.pt"),
            ("backbone", Bomb()),
            ("text", 1),
            ("image_size", None),
        )
        rest |= {"format": "sapool-model-1", "options": dict([random.choice(extra)])}
    if random.random() < 0.05:
        rest["x"] = Bomb()
    return {**rest, "state_dict": random.choice((None, [], {"a": 1}, {})) if random.random() < 0.05 else state}


def some_content(random: Random, folder: Path) -> dict[str, Any]:
    return changed(random, content())


def write(given: object, path: Path) -> None:
    try:
        torch.save(given, path)
    except (TypeError, AttributeError, RuntimeError, NotImplementedError, pickle.PicklingError):
        torch.save({"nothing": 1}, path)  # what torch can't write is no file
    add_to_archive(path)


def loaded(given: dict[str, Any], folder: Path) -> None:
    """What is accepted computes with finite shapes; as weights it is taken or refused too."""
    path = folder / "model.pt"
    write(given, path)
    refusal: WeightsError | sapool.InputError | None = None
    try:
        model = sapool.load(path).eval()
        kind = next(model.parameters()).dtype
        size = model.plan.options
        if max(size.image_size) <= 128:
            answer = model(torch.zeros(1, size.in_chans, *size.image_size, dtype=kind))
            assert isinstance(answer, list) or answer.shape == (1, size.num_classes)
    except sapool.InputError as error:
        refusal = error
    try:
        sapool.compile("squeezenet1_1-lip-2221", num_classes=3, image_size=64, weights=path)
    except sapool.InputError as error:
        refusal = refusal or error
    if refusal is not None:
        raise refusal


@cache
def run_content() -> tuple[Any, dict[str, Any]]:
    """A recipe, and what its run's checkpoint holds."""
    recipe = read_recipe("digits", ["architecture=squeezenet1_1-lip-2221", "data.image_size=64"])
    state = {f"model.{key}": value for key, value in small().state_dict().items()}
    rest = {"epoch": 1, "global_step": 6, "optimizer_states": [{}], "lr_schedulers": [{}], "callbacks": {}, "loops": {}}
    return recipe, {**rest, "sapool": mark(recipe, ("a", "b", "c"), small()), "state_dict": state}


def some_run(random: Random, folder: Path) -> dict[str, Any]:
    return changed(random, run_content()[1])


def opened(given: dict[str, Any], folder: Path) -> None:
    """What is accepted loads into the network of the run's classes."""
    path = folder / "best.ckpt"
    write(given, path)
    found = read_run_checkpoint(path, run_content()[0])
    classes = found["sapool"]["classes"]
    with torch.device("meta"):
        shape = sapool.compile("squeezenet1_1-lip-2221", num_classes=len(classes), image_size=64)
    model = shape.to_empty(device="cpu")
    load_into(model, found, path)
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, len(classes))


KINDS = (
    Kind("bits flipped in a model", make=some_flip, judge=damaged, rounds=65, quick=20),
    Kind("models cut off", make=some_cut, judge=damaged, corpus=(("cut", 0, 0), ("cut", 4, 0)), rounds=20, quick=5),
    Kind(
        "models of other contents",
        make=some_content,
        judge=loaded,
        corpus=(
            {"format": "sapool-model-1", "architecture": TEXT, "options": {"weights": "DEFAULT"}, "state_dict": {}},
            {
                "format": "sapool-model-1",
                "architecture": TEXT,
                "options": {"weights": f"{CANARY}.pt"},
                "state_dict": {},
            },
            {"format": torch.zeros(3)},
            {"format": "sapool-model-2", "guests": [[1]], "state_dict": {"a": torch.zeros(1)}},
            Bomb(),
        ),
        rounds=20,
        quick=5,
    ),
    Kind(
        "run checkpoints of other contents",
        make=some_run,
        judge=opened,
        corpus=({}, {"sapool": {"format": "sapool-run-1", "classes": None}}, {"sapool": Bomb()}),
        rounds=20,
        quick=5,
    ),
)
