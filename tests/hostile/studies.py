"""Studies' folders and files, and spaces of networks: of wrong types, too large, with names that other programs run."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from random import Random
from typing import Any

from sapool.digests import json_with_digest
from tests.hostile import CANARY, Kind
from tests.hostile.strings import PIECES, mutated

HUGE, DEEP = "9" * 5000, "[" * 20_000
SCALARS: tuple[Any, ...] = (
    *(0, -1, 2**64, 1e308, float("nan"), float("inf"), True, None, "", "lip", "../x", "a\0b", "\u202e\x1b[2J"),
    *("x" * 6000, [1], [[1]], {}, {"a": 1}, "\ud800", f"{CANARY}/x", "=cmd|' /C calc'!A0", "@SUM(1)", "-1+1"),
    *("$\\frac$", "\\input{x}"),
)  # fmt: skip
NAMES = [name for name in SCALARS if isinstance(name, str)]
SUMMARY = {"test_accuracy": 0.5, "test_loss": 1.0, "parameters": 9, "macs": 9, "arena_bytes": 9}
FILE = """recipe = "digits"
seeds = 2
[axes]
architecture = "resnet18-{pool}-{strides}"
pool = ["maxp", "lip"]
strides = ["1222"]
[budget]
memory = "256KB"
"""
VALUES = (
    *("0", "-1", "nan", "inf", "1e999", HUGE, "9" * 30, "1000000000000", "true", '""', '"{pool}"', '"{0}"', '"{a.b}"'),
    *("[]", "[[1]]", "{low = 1, high = 2}", "{low = 1, high = 9e999}", f"{{low = 1, high = {'9' * 400}}}", DEEP),
    *('"' + "{pool}" * 20_000 + '"', '["' + "x" * 20_000 + '"]', f'"{CANARY}.pt"', '"a\\u0000"', '"\\u202e"'),
)
KEYS = ("recipe", "expand", "runs", "draw", "seeds", "threads", "storage", "axes", "settings", "budget", "x", "title")


def row(**changed: Any) -> dict[str, Any]:
    """A run as `study.json` has it."""
    return {
        "name": "0-lip-seed0",
        "axes": {"pool": "lip"},
        "seed": 0,
        "recipe": "",
        "refused": "",
        "constraints": {},
    } | changed


def content(*rows: Any, **changed: Any) -> dict[str, Any]:
    """What a `study.json` holds."""
    own = {"format": "sapool-study-1", "title": "t", "id": "x", "storage": "", "threads": 1, "pruning": None}
    return own | {"runs": list(rows) or [row()]} | changed


def some_study(random: Random, folder: Path) -> tuple[Any, Any]:
    rows = [row(), row(name="1-lip-seed1", seed=1)]
    study, summary = content(*rows), dict(SUMMARY)
    for place in random.choices((study, rows[0], rows[0]["axes"], summary), k=random.choice((1, 1, 2))):
        place[random.choice([*place, random.choice(NAMES) if random.random() < 0.1 else "z"])] = random.choice(SCALARS)
    return study, summary


def shown(given: tuple[Any, Any], folder: Path) -> None:
    """A study's table, as people and programs read it; the CSV has no formulas, and LaTeX no commands of theirs."""
    from sapool.study.compare import plot_study  # noqa: PLC0415
    from sapool.study.table import study_table  # noqa: PLC0415

    study, summary = (one if isinstance(one, str) else json.dumps(one) for one in given)
    (folder / "study.json").write_text(study, encoding="utf-8", errors="surrogatepass")
    runs = given[0].get("runs") if isinstance(given[0], dict) else None
    for run in runs if isinstance(runs, list) else []:
        name = run.get("name") if isinstance(run, dict) else None
        if isinstance(name, str) and re.fullmatch(r"[\w-]{1,100}", name):
            (folder / "runs" / name).mkdir(parents=True, exist_ok=True)
            (folder / "runs" / name / "summary.json").write_text(summary, encoding="utf-8")
    table = study_table(folder)
    table.report()
    json.dumps(table.as_data())
    for cells in csv.reader(io.StringIO(table.to_csv())):
        for cell in cells[: len(table.axes)]:
            assert cell.isprintable(), cell
            assert not re.match(r"[=@]|[+-](?![\d.]+(e[+-]?\d+)?$)", cell), cell
    body = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]", "", table.to_latex())
    left = set(re.findall(r"\\[a-zA-Z]+", body))
    assert left <= {"\\begin", "\\end", "\\toprule", "\\midrule", "\\bottomrule", "\\mathbf", "\\pm"}, left
    plot_study(table, folder / "plot.png")


def some_file(random: Random, folder: Path) -> str:
    lines = FILE.split("\n")
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(lines))
        key, equals, _ = lines[at].partition("=")
        if equals:
            lines[at] = f"{key}= {random.choice(VALUES)}"
        elif random.random() < 0.5:
            lines[at] = mutated(random, lines[at] + " ", PIECES)
        else:
            lines.insert(0, f"{random.choice(KEYS)} = {random.choice(VALUES)}")
    return "\n".join(lines)


def planned(text: str, folder: Path) -> None:
    """A study's file; nothing of it is opened but its recipe."""
    from sapool.study.sweep.definition import read_study  # noqa: PLC0415
    from sapool.study.sweep.points import planned_runs  # noqa: PLC0415

    file = folder / "study.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    for run in planned_runs(read_study(str(file))):
        assert re.fullmatch(r"\d+-[\w+-][\w.+-]*", run.name), run.name


def spaces(text: str, folder: Path) -> None:
    """A space of networks."""
    from sapool.study.search.space import candidates, read_space  # noqa: PLC0415

    file = folder / "space.toml"
    file.write_text(text, encoding="utf-8")
    candidates(read_space(str(file), {}))


def some_space(random: Random, folder: Path) -> str:
    stages = random.choices(("1", "2", "[12]", "[", "]", "²"), (4, 4, 4, 1, 1, 1), k=random.choice((3, 4, 7)))
    strides = "".join(stages) if random.random() < 0.8 else "[0123456789]" * 30
    backbone = random.choice(("resnet18", "alexnet", "x", "a\\u0000"))
    more = f"{random.choice(('num_classes', 'in_chans', 'image_sizes', 'prepools'))} = {random.choice(VALUES)}"
    return f'backbones = ["{backbone}"]\npools = ["lip"]\nstrides = ["{strides}"]\n{random.choice(("", more))}'


def journal(lines: str, folder: Path) -> None:
    """A journal that Optuna didn't write, in a study's folder."""
    from sapool.study.sweep.folder import open_study  # noqa: PLC0415
    from sapool.study.sweep.records import Records  # noqa: PLC0415

    (folder / "study.json").write_text(json_with_digest(content()), encoding="utf-8")
    (folder / "journal.log").write_text(lines, encoding="utf-8")
    Records(open_study(folder))


def some_journal(random: Random, folder: Path) -> str:
    text = '{"op_code": 0, "worker_id": "x", "study_name": "t", "directions": [2]}\n'
    text += '{"op_code": 4, "worker_id": "x", "study_id": 0, "datetime_start": "2020-01-01T00:00:00"}\n'
    return mutated(random, text, ("9", "-1", "null", "[1]", '"', DEEP, HUGE, "\n"))


KINDS = (
    Kind(
        "studies",
        some_study,
        shown,
        corpus=(
            (content(row(), row(name="1-lip-seed1", seed=1)), SUMMARY | {"test_accuracy": 1e308}),
            *((content(row(axes=axes)), SUMMARY) for axes in ([1], None, {}, {"$x$\\input{a}": "\\write18{x}~^"})),
            *((content(row(name=name)), SUMMARY) for name in (5, None, "../../x", "a\0b", "x" * 5000, ".hidden")),
            *((content(row(seed=seed)), SUMMARY) for seed in ("x", [1], 1e3)),
            (content(row(), row(name="1", axes={"b": 1})), SUMMARY),
            (content(row(), row(name="1", axes={"pool": "=1+1"}), row(name="2", axes={"pool": "a\rb"})), SUMMARY),
            *(
                (content(), SUMMARY | {name: value})
                for name, value in (
                    ("test_accuracy", float("nan")),
                    ("test_accuracy", float("inf")),
                    ("parameters", float("inf")),
                    ("parameters", 0),
                    ("macs", 10**400),
                    ("test_loss", float("nan")),
                )
            ),
            *((text, SUMMARY) for text in (DEEP, "[]", f'{{"format": "sapool-study-1", "runs": {HUGE}}}')),
            (content(), DEEP),
        ),
        rounds=20,
        quick=4,
    ),
    Kind(
        "studies' files",
        some_file,
        planned,
        corpus=(
            FILE.replace("seeds = 2", "seeds = 1000000000000"),
            FILE.replace("{pool}", "{pool}" * 20_000).replace("lip", "x" * 20_000),
            FILE.replace("256KB", HUGE),
            FILE.partition("[axes]")[0] + 'budget = nan\n[axes]\narchitecture = "resnet18-lip-1222"',
            f'recipe = "digits"\nexpand = "random"\nruns = 3\n[axes]\ntrain.epochs = {{low = 1, high = {"9" * 400}}}',
            'recipe = "digits"\n[axes]\narchitecture = ["../../{p}"]\np = ["..", "a/../b"]',
        ),
        rounds=20,
        quick=4,
    ),
    Kind(
        "spaces",
        some_space,
        spaces,
        corpus=(
            'backbones = ["resnet18"]\npools = ["lip"]\nstrides = ["' + "[0123456789]" * 20 + '"]',
            'backbones = ["alexnet"]\npools = ["lip"]\nstrides = ["' + "[0123456789]" * 30 + '"]\nprepools = []',
        ),
        rounds=20,
        quick=4,
    ),
    Kind(
        "journals",
        some_journal,
        journal,
        corpus=('{"op_code": 99, "worker_id": "x"}\n', DEEP, '{"op_code": 0, "worker_id"', "\0" * 100),
        rounds=10,
        quick=2,
    ),
)
