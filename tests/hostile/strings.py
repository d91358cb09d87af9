"""Architecture strings: damaged ones, joined ones, and whatever Unicode has."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch

import sapool
from sapool.catalogue import backbones
from sapool.catalogue.poolings import POOLINGS
from tests.hostile import Kind

SMALL = {
    name: backbones.BACKBONES[name]
    for name in ("resnet18", "mobilenet", "squeezenet1_1", "vgg11", "mobilenet_v3_small", "alexnet")
}
BACKBONES = tuple(SMALL)
SEEDS = (
    "prepool-nlp-4-resnet18-nlp-1222",
    "mobilenet_v2-gaussian_pool-4222121",
    "dyresnet18-nlp_headfix2_nowin_reduced-1222",
    "resnet18-nlp_reduced0842-1222",
    "resnet50_v2-dfmixp-1222",
    "mobilenet-skip-1222121",
    "vgg11-lip-22222",
    "timm:resnet18-lip-1222",
)
PIECES = (
    *("-", "_", ":", "timm:", "timm:hf_hub:zzcanary/zzcanary", "hf-hub:", "nlp", "headfix", "0", "9" * 40, "reduced"),
    *("..", "/", "\0", "\n", "\r", "\x1b[2J", "\u202e", "\u2066", "\ud800", "İ", "ſ", "\u0661", "²", " ", "\u00ad"),
    *("🙂", "%s", "{0}", "$(touch zzcanary)", "[bold]", "<script>"),
)


def mutated(random: Random, text: str, pieces: tuple[str, ...] = PIECES) -> str:
    """A text with some of its characters exchanged, taken out, doubled, or pieces put in."""
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        at = random.randrange(len(text) + 1)
        match random.randrange(6):
            case 0:
                text = text[:at] + random.choice(pieces) + text[at:]
            case 1:
                text = text[:at] + text[at + random.randrange(1, 4) :]
            case 2:
                text = (
                    text[:at] + chr(random.choice((random.randrange(128), random.randrange(0x3000)))) + text[at + 1 :]
                )
            case 3:
                text = text[:at] + text[max(at - 5, 0) :]
            case 4:
                text = text.swapcase() if random.random() < 0.3 else text + random.choice(SEEDS)
            case 5:
                text = text[:at] + text[at : at + 3] * random.choice((2, 3, 400)) + text[at:]
    return text


def made(random: Random) -> str:
    """Words of the language in the order of the language, with numbers that may be of any size."""
    backbone = random.choice(BACKBONES)
    stages = len(SMALL[backbone].stages)
    digits = [random.choice("1112234") for _ in range(random.choice((stages, stages, stages, stages + 1, stages - 1)))]
    text = f"{random.choice(('', '', 'dy'))}{backbone}{random.choice(('', '', '', '_v2'))}-"
    text += f"{pooling(random)}-{''.join(digits)}"
    if random.random() < 0.3:
        text = f"prepool-{pooling(random)}-{random.choice((1, 2, 4, 7, 64, 256, 0, 10**9))}-{text}"
    return text


def pooling(random: Random) -> str:
    modifiers = {
        "_headfix": random.choice(("", "1", "2", "3", "16", "0", "4096", "9" * 30)),
        "_nowin": "",
        "_reduced": random.choice(("", "1", "0842", "1111", "9999999", "0" * 300)),
    }
    chosen = random.sample(list(modifiers.items()), random.choice((0, 0, 1, 2, 3)))
    return random.choice(list(POOLINGS)) + "".join(name + value for name, value in chosen)


def some_string(random: Random, folder: Path) -> str:
    text = made(random) if random.random() < 0.6 else random.choice(SEEDS)
    return text if random.random() < 0.3 else mutated(random, text)


def compiled(text: str, folder: Path) -> None:
    """What is of the language comes back as its canonical text, and its network does what the text says."""
    parsed = sapool.parse(text)
    assert sapool.parse(str(parsed)) == parsed
    with torch.device("meta"):
        model = sapool.compile(text, image_size=96, num_classes=7).eval()
        assert model(torch.empty(1, 3, 96, 96)).shape == (1, 7)
    assert model.plan.architecture == str(parsed)


KINDS = (
    Kind(
        "strings",
        make=some_string,
        judge=compiled,
        corpus=(
            "",
            "-",
            "dydyresnet18-nlp-1222",
            "resnet18-nlp-122\u0662",
            "resnet18-nlp_headfix" + "9" * 5000 + "-1222",
            "resnet18-" + "nlp-" * 5000 + "1222",
            "resnet18-nlp-1222\n",
            "\ud800",
            "timm:hf_hub:zzcanary/zzcanary-lip-1222",
            "timm:../zzcanary-lip-1222",
            "İ" * 50,
        ),
        rounds=20,
        quick=8,
    ),
)
