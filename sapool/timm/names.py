"""How architectures are spelled as names of timm's models. No torch here."""

from __future__ import annotations

from sapool.catalogue.backbones import TIMM
from sapool.grammar import parse

PREFIX = "sapool-"
_TIMM = TIMM.replace(":", "_")


def spelled(text: str) -> str:
    """The name by which timm makes an architecture.

    Raises:
        ArchitectureError: the text isn't of the language.
    """
    return PREFIX + str(parse(text)).replace(":", "_").replace(".", "__")


def meant(name: str) -> str | None:
    """The architecture of a name, or None where it is none of ours.

    Raises:
        ArchitectureError: it begins as ours do, and isn't of the language.
    """
    if not name.startswith(PREFIX):
        return None
    text = name.removeprefix(PREFIX)
    backbone = text.partition(_TIMM)
    if backbone[1]:
        text = f"{backbone[0]}{TIMM}{backbone[2].replace('__', '.')}"
    return str(parse(text))
