"""The fenced blocks of a Markdown text."""

from __future__ import annotations

import re


def blocks(text: str, language: str = "") -> list[str]:
    """What stands in the fenced blocks of a language; of those without one by default."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
