"""Recipes and overrides: settings of every wrong type, damaged TOML, chains of files."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from sapool import recipes
from sapool.recipes.reading import read_recipe, to_toml
from tests.hostile import CANARY, Kind
from tests.hostile.strings import PIECES, mutated

DEEP = "[" * 2000
VALUES: tuple[str, ...] = (
    *("0", "-1", "1", "1e3", "1e999", "nan", "inf", "-0.0", "true", "9" * 5000, "0x7fffffffffffffff", "1000000000000"),
    *('""', '"1"', '"a\\u0000b"', '"\\u202e"', "'\x7f'", '"' + "x" * 9000 + '"', "1979-05-27", "07:32:00"),
    *("[]", "[1]", "[[1]]", "{}", "{a = 1}", DEEP, "[0.5, 0.5]", '["a", 1]', "[1, 2, 3, 4]"),
    *(f'"{CANARY}.pt"', '"DEFAULT"', '"http://127.0.0.1:9/x"', '"gone.json"', '"../x.json"'),
    *("plain", "[bold]x", "$(touch zzcanary)", "1 # comment", "1\nepochs = 3", "=", "'", '"""'),
)  # fmt: skip
KEYS = (
    *("architecture", "dialect", "plan", "weights", "select", "acknowledge", "title", "extends", "data", "train"),
    *("data.name", "data.root", "data.image_size", "data.validation", "data.workers", "data.mean", "data.std"),
    *("train.epochs", "train.batch_size", "train.devices", "train.nodes", "train.seed", "train.precision"),
    *("optimizer.lr", "optimizer.name", "schedule.milestones", "schedule.warmup_epochs", "detector.base"),
    *("detector.out_indices", "data.train_annotations", "data.classes", "data.mixup", "train.ema", "detector"),
    *("x", "data.x", "a.b.c", "", ".", "data.", "d\u0430ta.name", "data..name"),
)  # fmt: skip


def read(given: tuple[str, list[str]], folder: Path) -> None:
    """What is accepted is written out in full and read back as it is."""
    recipe = read_recipe(*given)
    saved = folder / "saved.toml"
    saved.write_text(to_toml(recipe), encoding="utf-8")
    again = read_recipe(str(saved))
    ours = {"title": recipe.title, "notes": recipe.notes}  # what was changed is said once, when it is
    assert again.model_copy(update=ours) == recipe, "another recipe was written"


def some_overrides(random: Random, folder: Path) -> tuple[str, list[str]]:
    given = []
    for _ in range(random.choice((1, 1, 2, 4))):
        text = f"{random.choice(KEYS)}={random.choice(VALUES)}"
        given.append(mutated(random, text, PIECES) if random.random() < 0.3 else text)
    return random.choice(recipes.names()), given


def some_recipe(random: Random, folder: Path) -> tuple[str, list[str]]:
    text = recipes.text(random.choice(recipes.names()))
    for _ in range(random.choice((0, 1, 2))):
        section, _, name = random.choice(KEYS).rpartition(".")
        line = f"{name or section} = {random.choice(VALUES)}\n"
        text = f"{line}{text}" if random.random() < 0.4 else f"{text}\n[{section}]\n{line}"
    lines = text.split("\n")
    for _ in range(random.choice((0, 1, 3))):
        at = random.randrange(len(lines))
        key, equals, _ = lines[at].partition("=")
        lines[at] = f"{key}= {random.choice(VALUES)}" if equals else mutated(random, lines[at] + " ", PIECES)
    file = folder / "recipe.toml"
    file.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    return str(file), []


def from_text(given: Any, folder: Path) -> None:
    """The same of an entry of the corpus, which is a file's text."""
    if isinstance(given, str):
        file = folder / "recipe.toml"
        file.write_text(given, encoding="utf-8")
        (folder / "loop.toml").symlink_to("loop.toml")
        given = (str(file), [])
    read(given, folder)


KINDS = (
    Kind(
        "recipes",
        make=some_recipe,
        judge=from_text,
        corpus=(
            "",
            'extends = "digits"\n[data]\nname = [1]',
            f'extends = "digits"\n[train]\nseed = {"9" * 4400}',
            f"a = {DEEP}",
            'extends = "recipe.toml"',
            'extends = "loop.toml"',
            'extends = "a\\u0000.toml"',
            'extends = "../gone.toml"\n',
            'title = "mine"\nextends = "digits"',
            'extends = "digits"\narchitecture = "a\\u0000.json"',
            'extends = "digits"\n' + "\n".join(f"key{number} = 1" for number in range(20_000)),
            "a." * 3000 + "b = 1",
            f'extends = "{"x" * 9000}"',
            f'extends = "{"x/" * 4000}y.toml"',
            f'extends = "digits"\nplan = {json.dumps("[" * 3000)}',
        ),
        rounds=50,
        quick=10,
        seconds=20,
    ),
    Kind(
        "overrides",
        make=some_overrides,
        judge=read,
        corpus=tuple(
            ("digits", [text])
            for text in (
                *("train.epochs=5\ndata.name=x", 'train.epochs="1"', "train.epochs=1e3", "title=x", "optimizer.lr=nan"),
                *("data.workers=1000000", "train.devices=99999999", "data.root=\ud800", "data.root=a\0b", f"x={DEEP}"),
                *("train.seed=" + "9" * 5000, "a." * 5000 + "b=1", "data.name=[1]", "data.name={a=1}", "data=1"),
            )
        ),
        rounds=65,
        quick=15,
        seconds=20,
    ),
)
