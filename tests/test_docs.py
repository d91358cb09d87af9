"""The pages under docs/ say what is so: their code runs, their recipes are read, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from sapool.recipes.reading import read_recipe
from tests.fences import blocks
from tests.tiers import in_tiers

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]


# Of the README's, tests/test_readme.py has more to ask.
WITH_CODE = {path.stem: path for path in TEXTS[1:] if blocks(path.read_text(encoding="utf-8"), "python")}
WITH_TOML = [path for path in PAGES if blocks(path.read_text(encoding="utf-8"), "toml")]


def is_recipe(text: str) -> bool:
    return "architecture" in tomllib.loads(text)


@pytest.mark.parametrize("page", in_tiers(WITH_CODE, ["your-data", "CONTRIBUTING"]))
def test_python_blocks_run(page: str, tmp_path: Path) -> None:
    """A page's blocks one after the other, as a reader would type them; what they register stays theirs."""
    script = tmp_path / f"{page}.py"
    script.write_text("\n".join(blocks(WITH_CODE[page].read_text(encoding="utf-8"), "python")), encoding="utf-8")
    run = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", WITH_TOML, ids=lambda page: page.stem)
def test_recipes_are_read(page: Path, tmp_path: Path) -> None:
    recipes = [block for block in blocks(page.read_text(encoding="utf-8"), "toml") if is_recipe(block)]
    for number, text in enumerate(recipes):
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        assert str(read_recipe(str(file)).architecture) == tomllib.loads(text)["architecture"]


def anchors(path: Path) -> set[str]:
    """What the headings of a page are called in links, on GitHub and by MyST."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}"


def test_the_site_has_every_page() -> None:
    listed = [
        name
        for block in blocks((DOCS / "index.md").read_text(encoding="utf-8"), r"\{toctree\}")
        for name in block.split("\n\n")[-1].split()
    ]
    assert len(listed) == len(set(listed))
    assert {*listed, "index"} == {page.stem for page in PAGES}


def generator() -> Any:
    """`docs/poolings.py`, which isn't part of a package."""
    spec = spec_from_file_location("docs_poolings", DOCS / "poolings.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pooling_has_its_section() -> None:
    module, text = generator(), (DOCS / "poolings.md").read_text(encoding="utf-8")
    assert all(module.section(entry) in text for entry in module.KINDS)
    assert all(f"| `{entry.name}` | {entry.summary} |" in text for entry in module.ABLATIONS)
    assert all(entry.use for entry in module.KINDS)


@pytest.mark.parametrize("name", ["skip", "lip", "gaussian_pool", pytest.param("nlp", marks=pytest.mark.slow)])
def test_table_of_poolings_is_as_measured(name: str) -> None:
    """But for the last figure, streamed: that search has a time limit."""
    module = generator()
    (row,) = (line for line in (DOCS / "poolings.md").read_text(encoding="utf-8").splitlines() if f"[`{name}`]" in line)
    figures = module.figures(module.network(name))
    assert tuple(cell.strip() for cell in row.split("|"))[2:5] == figures


def test_pictures_show_what_pools_see() -> None:
    """A local kind's output depends on its window alone, the attentive kinds' on everything."""
    module = generator()
    rows = slice(module.TARGET[0] * module.STRIDE, (module.TARGET[0] + 1) * module.STRIDE)
    columns = slice(module.TARGET[1] * module.STRIDE, (module.TARGET[1] + 1) * module.STRIDE)
    for kind in ("maxp", "avgp", "lip"):
        seen = module.influence(kind)
        seen[rows, columns] = 0
        assert not seen.any()
    assert (module.influence("nlp") > 0).all()


@pytest.mark.slow
def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    sphinx = pytest.importorskip("sphinx.cmd.build")
    assert sphinx.build_main(["-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]) == 0
    assert (tmp_path / "poolings.html").exists()
