"""Plans: mutated JSON, as a file and as text in a recipe, that is carried out where it is accepted."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

import sapool
from sapool.digests import json_with_digest
from tests.hostile import CANARY, Kind
from tests.hostile.strings import mutated

TEXTS = (
    *("resnet18-nlp_headfix2-1222", "prepool-lip-2-resnet18_v2-gaussian_pool-2122", "mobilenet-attnpool-1222121"),
    *("dyresnet18-nlp_headfix2_nowin_reduced-1222", "squeezenet1_1-dfmixp-2221", "vgg11-skip-22222"),
)
LEAVES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 10**6, 2**63, 10**400, 0.5, 1e308, "", "x", "nlp", "skip", "\ud800"),
    *("a\0b", "x" * 5000, [], [1], [[]], {}, {"a": 1}, f"timm:hf_hub:{CANARY}/x", f"{CANARY}.pt", "own", "dfmixp"),
)  # fmt: skip


@cache
def plan(text: str) -> str:
    return sapool.make_plan(text, image_size=64, num_classes=5).to_json()


def mutate(random: Random, value: Any) -> Any:
    """Plain data with one of its leaves, keys or items changed."""
    if isinstance(value, dict) and value and random.random() < 0.93:
        key = random.choice(list(value))
        match random.randrange(12):
            case 0:
                return {name: item for name, item in value.items() if name != key}
            case 1:
                return {**value, random.choice(("x", "weights", "digest", "__class__")): random.choice(LEAVES)}
            case 2:
                return {(str(name) + "x" if name == key else name): item for name, item in value.items()}
        return {**value, key: mutate(random, value[key])}
    if isinstance(value, (list, tuple)) and value and random.random() < 0.93:
        at = random.randrange(len(value))
        match random.randrange(10):
            case 0:
                return [*value[:at], *value[at + 1 :]]
            case 1:
                return [*value, value[at]]
            case 2:
                return list(reversed(value))
        return [*value[:at], mutate(random, value[at]), *value[at + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and random.random() < 0.5:
        return value + random.choice((-1, 1, 2, value))
    if isinstance(value, str) and value and random.random() < 0.3:
        return mutated(random, value)
    return random.choice(LEAVES)


def crossed(random: Random, data: Any) -> Any:
    """A plan with a value of one place at another of the same name, from itself or from another plan."""
    places: list[tuple[Any, Any]] = []
    found: dict[Any, list[Any]] = {}

    def walk(value: Any) -> None:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, key))
            found.setdefault(key, []).append(item)
            if isinstance(item, (dict, list)):
                walk(item)

    other = json.loads(plan(random.choice(TEXTS)))
    walk(other)
    places.clear()
    walk(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        owner, key = random.choice(places)
        owner[key] = json.loads(json.dumps(random.choice(found[key])))
    return data


def some_plan(random: Random, folder: Path) -> str:
    text = plan(random.choice(TEXTS))
    if random.random() < 0.2:
        return mutated(random, text)
    data = json.loads(text)
    if random.random() < 0.4:
        data = crossed(random, data)
        data.pop("digest", None)
        return json.dumps(data) if random.random() < 0.8 else json_with_digest(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = mutate(random, data)
    return json.dumps(data)


def carried_out(given: str, folder: Path) -> None:
    """An accepted plan comes back as it is, and its network takes images of its size."""
    path = folder / "plan.json"
    path.write_text(given, encoding="utf-8", errors="surrogatepass")
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        found = sapool.read_plan(path)
        model = sapool.execute(found).eval()
        path.write_text(json_with_digest(json.loads(found.to_json())))
        assert sapool.read_plan(path) == found, "another plan was written"
        options = found.options
        answer = model(torch.empty(1, options.in_chans, *options.image_size))
        if not options.features_only:
            assert answer.shape == (1, options.num_classes)


KINDS = (
    Kind(
        "plans",
        make=some_plan,
        judge=carried_out,
        corpus=(
            *("", "[]", "{}", "null", '{"format": []}', "[" * 5000, '{"a":' * 5000, "9" * 5000, "\ufeff{}"),
            '{"format": "sapool-plan-2", "options": {"weights": "DEFAULT"}}',
            '{"format": "sapool-plan-3", "architecture": "timm:hf_hub:zzcanary/zzcanary-lip-2222"}',
        ),
        rounds=27,
        quick=8,
    ),
)
