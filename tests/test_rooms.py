"""The house is in order: rooms use what stands before them, files are small, and no two files import each other."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP = ("grammar", "passes", "recipes")

# docs/architecture.md has the same order; rooms of one line don't use each other.
ORDER = [
    {"errors"},
    {"digests"},
    {"catalogue"},
    {"ir"},
    {"grammar"},
    {"recipes"},
    {"poolings"},
    {"analysis"},
    {"passes"},
    {"weights"},
    {"model"},
    {"planning"},
    {"compiler"},
    {"packed"},
    {"inference", "timm"},
    {"model_file"},
    {"cost"},
    {"schedule"},
    {"diagnostics"},
    {"prune"},
    {"runs"},
    {"training"},
    {"boxes"},
    {"classify", "detect", "detectors"},
    {"tasks"},
    {"export"},
    {"bench"},
    {"study"},
    {"inspection"},
    {"report"},
    {"cli"},
    {"__init__"},
]
WITHOUT_TORCH = {"errors", "digests", "ir", "grammar", "recipes"}
MOST_FILES, MOST_LINES, MEDIAN_LINES, MOST_LINES_OF_ENTRY = 14, 300, 120, 40


def files() -> dict[str, Path]:
    """Every file by the name under which it is imported."""
    found = {}
    for top in ("sapool", *TOP):
        for file in sorted((ROOT / top).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            parts = parts if top == "sapool" else ("sapool", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


FILES = files()
ROOMS = {name: [*name.split("."), "__init__"][1] for name in FILES}


def imported(tree: ast.AST, *, at_once: bool = False) -> set[str]:
    """The names of ours that a file imports; `at_once` leaves out what is imported in functions and for types alone."""
    names: set[str] = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            found = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= found if found <= FILES.keys() else {node.module, *found}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        lazy = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not (at_once and (lazy or types)):
            todo += ast.iter_child_nodes(node)
    return names


def parsed(name: str) -> ast.AST:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def test_rooms_use_what_stands_before_them() -> None:
    place = {room: number for number, rooms in enumerate(ORDER) for room in rooms}
    assert set(ROOMS.values()) <= set(place), "a room that has no place in the order"
    wrong = [
        f"{name} uses {target}"
        for name in FILES
        for target in imported(parsed(name))
        if target in FILES
        and ROOMS[target] != ROOMS[name]
        and place[ROOMS[target]] >= place[ROOMS[name]]
        and not (target == "sapool" and ROOMS[name] == "__init__")
    ]
    assert wrong == []


def test_no_two_files_import_each_other() -> None:
    graph = nx.DiGraph(
        (name, target) for name in FILES for target in imported(parsed(name)) if target in FILES and target != name
    )
    # A package is imported with each of its files; what it says of them itself is no circle.
    graph.remove_edges_from([(name, target) for name, target in graph.edges if name.startswith(f"{target}.")])
    assert list(nx.simple_cycles(graph)) == []


@pytest.mark.parametrize("room", sorted(WITHOUT_TORCH))
def test_rooms_without_torch(room: str) -> None:
    for name in (name for name, owner in ROOMS.items() if owner == room):
        heavy = {target.split(".")[0] for target in imported(parsed(name))} & {"torch", "torchvision", "lightning"}
        assert heavy == set(), name


def test_files_are_small_and_folders_are_not_crowded() -> None:
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in FILES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    assert median(lines.values()) <= MEDIAN_LINES
    folders = [file.parent for file in FILES.values()]
    assert {str(folder): folders.count(folder) for folder in folders if folders.count(folder) > MOST_FILES} == {}
    entry = (ROOT / "sapoolc.py").read_text(encoding="utf-8").splitlines()
    assert len(entry) <= MOST_LINES_OF_ENTRY


def test_the_page_on_the_house_has_the_same_rooms() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [word.strip(" `") for row in rows for word in row.split(",")]
    assert named == [room for rooms in ORDER[:-1] for room in sorted(rooms)]
