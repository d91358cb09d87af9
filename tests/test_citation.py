"""What is cited: once for machines and once for people, and the same."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SAYS = ("Self-Attentive Pooling for Efficient Deep Learning", "2023", "10.1109/WACV56688.2023.00396")


def test_the_paper_is_cited_for_people_and_for_machines() -> None:
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (bibtex,) = re.findall(r"```bibtex\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    for text in (cff, bibtex):
        assert all(word in text for word in SAYS)
        names = [text.index(name) for name in ("Chen", "Datta", "Kundu", "Beerel")]
        assert names == sorted(names)
    assert (re.search(r"start: (\d+)", cff)[1], re.search(r"end: (\d+)", cff)[1]) == ("3963", "3972")  # type: ignore[index]
    assert "3963--3972" in bibtex
