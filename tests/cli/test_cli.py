"""The command line: what it prints and writes, what it says of mistakes, and the code it leaves with."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import pickle
import re
import resource
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torchvision import models

import sapool
import sapoolc
from sapool.catalogue.backbones import BACKBONES
from sapool.catalogue.poolings import MODIFIERS, POOLINGS
from sapool.cost.flops import costs
from sapool.ir.plan_file import from_json
from sapool.recipes import summaries

TEXT = "resnet18-nlp_nowin-1221"
SMALL = ("--image-size", "64", "--num-classes", "10")
# One stage of a resnet18 is a model of half a megabyte.
TINY = ("resnet18-lip-2222", "--features-only", "--out-indices", "0")


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, and as if nobody had asked for colour."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def run(*words: str) -> Answer:
        try:
            code = sapoolc.main(words)
        except SystemExit as stop:  # argparse leaves by itself
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


def script(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the installed console script."""
    command = shutil.which("sapoolc", path=sysconfig.get_path("scripts"))
    assert command, "the package isn't installed: there is no sapoolc beside this Python"
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([command, *words], stderr=subprocess.PIPE, text=True, check=False, **options)


def stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


@cache
def compiled(text: str) -> sapool.CompiledModel:
    """What the library makes of a string, with the options of `SMALL`."""
    return sapool.compile(text, image_size=64, num_classes=10)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its contents, every folder with None."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# compile


PLAN = """\
site    action  stride  pooling  channels    map  heads  patch  embedding  window  tokens
stem    keep         4                 64
stage1  keep         1                 64
stage2  pool         2  nlp           128  16x16      8      1        128  no         256
stage3  pool         2  nlp           256    8x8     16      1        256  no          64
stage4  stride       1                512    4x4
"""


def test_compile_prints_plan_and_cost(run: Run) -> None:
    answer = run("compile", TEXT, *SMALL)
    assert (answer.code, answer.err) == (0, "")
    lines = stripped(answer.out)
    assert lines[:3] == [f"{TEXT}  (resnet18, torchvision dialect, 64x64)", "", "plan"]
    assert lines[3:9] == PLAN.splitlines()
    rows = [line.split() for line in lines]
    model, plain = compiled(TEXT), models.resnet18(num_classes=10)
    for part in costs(model, model.plan):
        assert [part.part, f"{part.parameters:,}", f"{part.macs:,}"] in rows
    ours, theirs = (sum(parameter.numel() for parameter in module.parameters()) for module in (model, plain))
    for shown in (f"{ours:,}", f"{theirs:,}", f"{ours / theirs:.2f}x", "148,050,944"):
        assert shown in answer.out


def test_compile_takes_the_librarys_options(run: Run) -> None:
    answer = run("compile", "ResNet18-LIP-1222", "--image-size", "96", "--dialect", "paper", "--num-classes", "7",
                 "--features-only", "--out-indices", "3,1", "--json")  # fmt: skip
    expected = sapool.compile(
        "resnet18-lip-1222", image_size=96, dialect="paper", num_classes=7, features_only=True, out_indices=(3, 1)
    )
    assert (answer.code, answer.err) == (0, "")
    data = json.loads(answer.out)
    assert data["architecture"] == "resnet18-lip-1222"
    assert from_json(json.dumps(data["plan"])) == expected.plan
    assert [(f["name"], f["channels"], f["reduction"]) for f in data["features"]] == [
        ("stage4", 512, 32),
        ("stage2", 128, 8),
    ]


def test_compile_prints_json(run: Run) -> None:
    answer = run("compile", TEXT, *SMALL, "--json")
    assert (answer.code, answer.err) == (0, "")
    data = json.loads(answer.out)
    assert set(data) >= {"architecture", "plan", "cost", "features"}
    parts, total = data["cost"]["parts"], data["cost"]["total"]
    for number in ("parameters", "macs"):
        assert total[number] == sum(part[number] for part in parts)
    assert data["cost"]["unmodified"]["macs"] == 148_050_944
    assert f"{total['macs']:,}" in run("compile", TEXT, *SMALL).out


def test_compile_tells_what_became_of_weights(run: Run) -> None:
    state = models.resnet18(num_classes=10).state_dict()
    torch.save(state, "weights.pt")
    told = run("compile", "resnet18-lip-1222", *SMALL, "--weights", "weights.pt")
    assert told.code == 0
    line = "weights: 122 tensors transferred, 21 new, 0 dropped; new: pools.stage2.*, pools.stage3.*, pools.stage4.*"
    assert line in stripped(told.out)
    data = json.loads(run("compile", "resnet18-lip-1222", *SMALL, "--weights", "weights.pt", "--json").out)
    assert data["transfer"]["transferred"] == list(state)
    assert data["transfer"]["dropped"] == []


@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_compile_writes_a_model(run: Run, folder: Path, suffix: str) -> None:
    answer = run("compile", *TINY, "--image-size", "96", "-o", f"model.{suffix}")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == run("compile", *TINY, "--image-size", "96").out
    model = sapool.load(f"model.{suffix}")
    expected = sapool.compile("resnet18-lip-2222", features_only=True, out_indices=(0,), image_size=96)
    assert model.plan == expected.plan
    assert all(tensor.device.type == "cpu" and tensor.isfinite().all() for tensor in model.state_dict().values())
    assert names(folder) == [f"model.{suffix}"]


def test_compile_writes_loaded_weights(run: Run) -> None:
    weights = models.resnet18().state_dict()
    torch.save(weights, "weights.pt")
    assert run("compile", *TINY, "--weights", "weights.pt", "-o", "model.pt").code == 0
    assert torch.equal(sapool.load("model.pt").state_dict()["conv1.weight"], weights["conv1.weight"])


def test_compile_writes_a_plan(run: Run, folder: Path) -> None:
    answer = run("compile", TEXT, *SMALL, "-o", "plan.json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == run("compile", TEXT, *SMALL).out
    assert from_json((folder / "plan.json").read_text(encoding="utf-8")) == compiled(TEXT).plan


def test_compile_writes_code(run: Run) -> None:
    assert run("compile", TEXT, *SMALL, "-o", "model.py").code == 0
    written = runpy.run_path("model.py")["Model"]().eval()
    model = copy.deepcopy(compiled(TEXT)).eval()
    written.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(written(x), model(x), atol=1e-5)


def test_compile_replaces_a_file(run: Run, folder: Path) -> None:
    (folder / "plan.json").write_text("an older plan", encoding="utf-8")
    assert run("compile", *TINY, "-o", "plan.json").code == 0
    assert json.loads((folder / "plan.json").read_text(encoding="utf-8"))["architecture"] == "resnet18-lip-2222"
    assert names(folder) == ["plan.json"]


# inspect

SECTIONS = ["plan", "rewrites", "left alone", "nodes"]


def sections(text: str) -> list[str]:
    return [line for line in stripped(text) if line in SECTIONS]


def test_inspect_shows_everything(run: Run) -> None:
    answer = run("inspect", TEXT, *SMALL)
    assert (answer.code, answer.err) == (0, "")
    assert sections(answer.out) == SECTIONS
    assert "\n".join(stripped(answer.out)).startswith(f"{TEXT}  (resnet18, torchvision dialect, 64x64)\n\nplan\n{PLAN}")


def test_inspect_shows_rewrites(run: Run) -> None:
    answer = run("inspect", TEXT, "--rewrites")
    assert (answer.code, sections(answer.out)) == (0, ["rewrites", "left alone"])
    done, left = (re.sub(r" {2,}", " | ", part) for part in answer.out.split("left alone"))
    assert "restride | stage2 | layer2.0.conv1 | stride 2 | stride 1" in done
    assert "insert_pools | stage2 | pools.stage2 | after layer2_1_relu_1 | nlp, stride 2" in done
    assert "pools.stage4" not in done
    assert "restride | stage1 | stage1 | keeps its own stride of 1" in left
    assert "insert_pools | stage4 | stage4 | a stride of 1 without pooling" in left


def test_inspect_shows_nodes(run: Run) -> None:
    answer = run("inspect", TEXT, "--nodes")
    assert (answer.code, sections(answer.out)) == (0, ["nodes"])
    title, columns, *rows = stripped(answer.out)
    assert (title, columns.split()) == ("nodes", ["node", "operation", "target", "arguments", "rule", "site"])
    model = compiled(TEXT)
    assert [row.split()[0] for row in rows] == [node.name for node in model.graph.nodes]
    pools = [row.split() for row in rows if row.startswith("pools_stage3")]
    assert pools == [["pools_stage3", "SelfAttentivePool", "pools.stage3", "layer3_1_relu_1", "insert_pools", "stage3"]]


def test_inspect_shows_code(run: Run) -> None:
    answer = run("inspect", TEXT, "--code")
    assert answer.code == 0
    assert answer.out.strip() == compiled(TEXT).code.strip()


def test_inspect_joins_what_is_asked_for(run: Run) -> None:
    answer = run("inspect", TEXT, "--rewrites", "--nodes")
    assert sections(answer.out) == ["rewrites", "left alone", "nodes"]


def test_inspect_prints_json(run: Run) -> None:
    answer = run("inspect", TEXT, *SMALL, "--json")
    assert (answer.code, answer.err) == (0, "")
    data = json.loads(answer.out)
    model = compiled(TEXT)
    assert set(data) >= {"architecture", "plan", "cost", "features", "rewrites", "refusals", "passes", "nodes", "code"}
    assert from_json(json.dumps(data["plan"])) == model.plan
    assert [(r["rule"], r["target"]) for r in data["rewrites"]] == [(r.rule, r.target) for r in model.rewrites]
    assert [r["reason"] for r in data["refusals"]] == [r.reason for r in model.refusals]
    assert [node["node"] for node in data["nodes"]] == [node.name for node in model.graph.nodes]
    assert [p["rule"] for p in data["passes"]] == [p.rule for p in model.origin.passes]
    assert data["code"] == model.code.strip()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("model.pt", TINY),
        ("model.pt", (TEXT, *SMALL, "--dialect", "paper")),
        ("plan.json", (*TINY, "--image-size", "96")),
    ],
)
def test_inspect_reads_files(run: Run, name: str, options: tuple[str, ...]) -> None:
    assert run("compile", *options, "-o", name).code == 0
    from_text, from_file = run("inspect", *options), run("inspect", name)
    assert (from_file.code, from_file.err) == (0, "")
    assert from_file.out == from_text.out


@pytest.mark.parametrize("name", ["model.pt", "plan.json"])
def test_a_files_own_settings_stand(run: Run, folder: Path, name: str) -> None:
    assert run("compile", *TINY, "-o", name).code == 0
    answer = run("inspect", name, "--num-classes", "5", "--dialect", "paper")
    refused(answer, f"{name} has its own settings", "--num-classes, --dialect")


# list


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("backbones", list(BACKBONES)),
        ("poolings", list(POOLINGS)),
        ("modifiers", list(MODIFIERS)),
        ("recipes", list(summaries())),
    ],
)
def test_list(run: Run, what: str, names: list[str]) -> None:
    answer = run("list", what)
    assert (answer.code, answer.err) == (0, "")
    columns, *rows = answer.out.splitlines()
    assert [row.split()[0] for row in rows] == names != []
    data = json.loads(run("list", what, "--json").out)
    assert [entry["name"] for entry in data] == names
    # Columns stand one below the other.
    for entry, row in zip(data, rows, strict=True):
        for column, cell in entry.items():
            assert row[columns.index(column) :].startswith(cell)


# Mistakes


def refused(answer: Answer, *fragments: str) -> None:
    """The input was wrong: code 2, and one message that holds the fragments, without a traceback."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert answer.err.count("sapoolc: ") == 1
    for fragment in fragments:
        assert fragment in answer.err


MISTAKES: dict[str, tuple[str, ...]] = {
    "": ("COMMAND",),
    "complie resnet18-nlp-1222": ("'complie'", "Did you mean 'compile'?"),
    "list": ("backbones", "recipes"),
    "list backbone": ("'backbone'", "Did you mean 'backbones'?"),
    "list backbones --jsn": ("--jsn",),
    "compile": ("TEXT",),
    "compile resnet18-nlp-122": (
        "resnet18 has 4 stages, but '122' has 3 digits\n  resnet18-nlp-122\n               ^^^\n",
        "nearest valid spelling: resnet18-nlp-1222",
    ),
    "inspect resnet18-npl-1222": ("unknown pooling 'npl'", "nearest valid spelling: resnet18-nlp-1222"),
    "compile resnet18-nlp-1222 -o model.xyz": ("model.xyz", ".pt, .json, .py"),
    "compile resnet18-nlp-1222 -o model": ("model:", ".pt, .json, .py"),
    "compile resnet18-nlp-1222 -o nowhere/model.pt": ("nowhere/model.pt can't be written", "No such file or directory"),
    "compile resnet18-nlp-1222 -o nowhere/plan.json": ("nowhere/plan.json can't be written",),
    "compile resnet18-nlp-1222 -o nowhere/model.py": ("nowhere/model.py can't be written",),
    "compile resnet18-nlp-1222 -o file.txt/plan.json": ("file.txt/plan.json can't be written", "Not a directory"),
    "compile resnet18-nlp-1222 -o folder.json": ("folder.json can't be written", "Is a directory"),
    "compile resnet18-nlp-1222 --image-size 8": ("8x8 are too small for resnet18-nlp-1222", "the smallest that works"),
    "compile resnet18-nlp-1222 --image-size 0": ("expected a positive number of pixels, not 0",),
    "compile resnet18-nlp-1222 --image-size large": ("--image-size", "'large'"),
    "compile resnet18-nlp-1222 --num-classes ten": ("--num-classes", "'ten'"),
    "compile resnet18-nlp-1222 --num-classes 0": ("num_classes: expected a positive number, not 0",),
    "compile resnet18-nlp-1222 --dialect papr": ("expected torchvision or paper, not 'papr'",),
    "compile resnet18-nlp-1222 --out-indices 1": ("feature maps", "features_only"),
    "compile resnet18-nlp-1222 --features-only --out-indices 1,9": ("resnet18 has outputs 0 to 3, not 9",),
    "compile resnet18-nlp-1222 --features-only --out-indices 1,1": ("different stage numbers, not [1, 1]",),
    "compile resnet18-nlp-1222 --features-only --out-indices=-1": ("resnet18 has outputs 0 to 3, not -1",),
    "compile resnet18-nlp-1222 --weights missing.pt": ("no such file: missing.pt",),
    "compile resnet18-nlp-1222 --weights file.txt": ("file.txt isn't",),
    "inspect missing.pt": ("no such file: missing.pt",),
    "inspect missing.json": ("missing.json can't be read: No such file or directory",),
    "inspect folder.json": ("folder.json can't be read: Is a directory",),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistake(run: Run, folder: Path, command: str) -> None:
    (folder / "file.txt").write_text("a file\n", encoding="utf-8")
    (folder / "folder.json").mkdir()
    before = listing(folder)
    refused(run(*command.split()), *MISTAKES[command])
    assert listing(folder) == before


@pytest.mark.parametrize("indices", ["one", "1,", "", "1;2"])
def test_out_indices_that_are_no_numbers(run: Run, indices: str) -> None:
    answer = run("compile", "resnet18-nlp-1222", "--features-only", f"--out-indices={indices}")
    refused(answer, "argument --out-indices", "expected numbers", f"'{indices}'")
    assert "_indices" not in answer.err, "the name of a function isn't the user's"


def test_the_smallest_image_is_named(run: Run) -> None:
    told = re.search(r"the smallest that works is (\d+)", run("compile", TEXT, "--image-size", "8").err)
    assert told
    smallest = int(told[1])
    assert run("compile", TEXT, "--image-size", str(smallest)).code == 0
    refused(run("compile", TEXT, "--image-size", str(smallest - 1)), "too small")


def whole_model(path: Path) -> bytes:
    sapool.save(sapool.compile("resnet18-lip-2222", features_only=True, out_indices=(0,)), path)
    return path.read_bytes()


def test_files_that_are_no_models(run: Run, folder: Path) -> None:
    path = folder / "model.pt"
    whole = whole_model(path)
    for content in (b"", b"rubbish\n", b"text about a model\n", whole[:100], whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(content)
        for words in (["inspect", "model.pt"], ["compile", "resnet18-lip-2222", "--weights", "model.pt"]):
            answer = run(*words)
            refused(answer, "model.pt is", "damaged")
            assert "run code" not in answer.err, content
    assert listing(folder) == {"model.pt": whole[:-10]}


def test_a_plain_state_dict_is_no_model(run: Run) -> None:
    torch.save(models.resnet18().state_dict(), "weights.pt")
    refused(run("inspect", "weights.pt"), "weights.pt isn't a sapool model", "to use it as weights")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"a": 1}', '{"format": "sapool-plan-9"}', "[" * 100_000])
def test_files_that_are_no_plans(run: Run, folder: Path, content: str) -> None:
    (folder / "plan.json").write_text(content, encoding="utf-8")
    refused(run("inspect", "plan.json"), "isn't a plan")


def test_a_file_that_is_no_plan_is_named(run: Run, folder: Path) -> None:
    (folder / "plan.json").write_text("{}", encoding="utf-8")
    refused(run("inspect", "plan.json"), "plan.json isn't a plan")
    (folder / "plan.json").write_bytes(b"\xff\xfe\x00")
    refused(run("inspect", "plan.json"), "plan.json isn't a plan")


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": "10"},
        {"num_classes": 1.5},
        {"image_size": "64"},
        {"features_only": True, "out_indices": ["a"]},
        {"dialect": "other"},
        {"architecture": "resnet19-nlp-1222"},
        {"architecture": 5},
        {"sites": None},
        {"more": 1},
    ],
    ids=str,
)
def test_plans_with_wrong_values(run: Run, folder: Path, change: dict[str, Any]) -> None:
    plan = json.loads(compiled(TEXT).plan.to_json())
    (folder / "plan.json").write_text(json.dumps({**plan, **change}), encoding="utf-8")
    refused(run("inspect", "plan.json"))


class Bomb:
    """Unpickled by the wrong loader, it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("gone-off"),)


@pytest.mark.parametrize("packed", ["torch", "inside", "pickle"])
def test_code_in_a_file_is_not_run(run: Run, folder: Path, packed: str) -> None:
    match packed:
        case "torch":
            torch.save(Bomb(), "bomb.pt")
        case "inside":
            torch.save({"format": "sapool-model-1", "state_dict": {"conv1.weight": Bomb()}}, "bomb.pt")
        case _:
            (folder / "bomb.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    for words in (["inspect", "bomb.pt"], ["compile", "resnet18-lip-2222", "--weights", "bomb.pt"]):
        refused(run(*words), "bomb.pt isn't loaded: it holds objects that could run code")
    assert names(folder) == ["bomb.pt"]
    # The bomb is a real one.
    pickle.loads(pickle.dumps(Bomb()))
    assert (folder / "gone-off").exists()


def test_reading_a_file_warns_of_nothing(run: Run, folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    """torch warns of pickle protocols; on the command line that would stand before the message."""
    (folder / "weights.pt").write_bytes(pickle.dumps({"conv1.weight": 1}))
    run("compile", "resnet18-lip-2222", "--weights", "weights.pt")
    assert [str(warning.message) for warning in recwarn] == []


# Nothing is half-written


def full_disk(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize("name", ["model.pt", "plan.json", "model.py"])
def test_a_full_disk(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, existing: bool) -> None:
    if existing:
        (folder / name).write_text("what was there\n", encoding="utf-8")
    before = listing(folder)

    def half(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half a fi")
        full_disk()

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda content, path: half(path))
        patch.setattr(Path, "write_text", half)
        answer = run("compile", *TINY, "-o", name)
    refused(answer, f"{name} can't be written: No space left on device")
    assert listing(folder) == before


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to let files grow larger, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["model.pt", "plan.json", "model.py"])
def test_a_disk_that_fills_up_while_writing(run: Run, folder: Path, name: str) -> None:
    run("compile", *TINY)  # what is imported on first use is cached in files, too
    with files_no_larger_than(500):
        answer = run("compile", *TINY, "-o", name)
    refused(answer, f"{name} can't be written")
    assert listing(folder) == {}


# Failures and tracebacks


@pytest.mark.parametrize("error", [RuntimeError("it broke"), AssertionError("it broke"), MemoryError("it broke")])
def test_a_failure_of_ours(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr("sapool.compiler.execute", fail)
    answer = run("compile", TEXT)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"sapoolc: {type(error).__name__}: it broke\n(--debug shows where)\n"


def test_an_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("sapool.compiler.execute", interrupt)
    assert run("compile", TEXT) == Answer(130, "", "sapoolc: interrupted\n")


def test_debug_shows_the_traceback() -> None:
    answer = script("compile", "resnet18-nlp-122", "--debug")
    assert "Traceback (most recent call last)" in answer.stderr
    assert "in parse" in answer.stderr
    assert "resnet18 has 4 stages, but '122' has 3 digits" in answer.stderr
    assert answer.stdout == ""


def test_debug_keeps_the_exit_code() -> None:
    assert script("compile", "resnet18-nlp-122", "--debug").returncode == 2


# The real command


def test_script_compiles(folder: Path) -> None:
    answer = script("compile", TEXT, *SMALL, "-o", "plan.json")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(f"{TEXT}  (resnet18, torchvision dialect, 64x64)\n")
    assert names(folder) == ["plan.json"]


def test_script_refuses() -> None:
    answer = script("compile", "resnet18-nlp-122")
    refused(Answer(answer.returncode, answer.stdout, answer.stderr), "nearest valid spelling: resnet18-nlp-1222")


def test_script_tells_its_version() -> None:
    answer = script("--version")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"sapoolc {sapool.__version__}\n", "")


def test_errors_are_folded_between_words_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    wrong = "mobilenet-nlp_headfix2_nowin_reduced8422111_windows-1222121"
    assert sapoolc.main(["compile", wrong]) == 2
    whole = capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert sapoolc.main(["compile", wrong]) == 2
    folded = capsys.readouterr().err
    assert folded.split() == whole.split()
    assert f"\n  {wrong}\n" in folded
    assert [line for line in folded.splitlines() if len(line) > 60 and not line.startswith(" ")] == []
    assert max(map(len, whole.splitlines())) > 60


@pytest.mark.parametrize(
    "words", [["list", "poolings"], pytest.param(["inspect", TEXT, "--nodes"], marks=pytest.mark.slow)], ids=" ".join
)
def test_a_reader_that_has_seen_enough(words: list[str]) -> None:
    """`sapoolc ... | head -1`, with a reader that leaves before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        answer = script(*words, stdout=writer)
    finally:
        os.close(writer)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_head() -> None:
    command = f"'{sys.executable}' -m sapoolc list poolings | head -1"
    answer = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (answer.stdout.split(), answer.stderr) == (["name", "modifiers", "what", "it", "is"], "")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["compile", "--help"],
        ["train", "--help"],
        ["list", "backbones"],
        ["list", "poolings", "--json"],
        ["list", "modifiers"],
        ["list", "recipes"],
        ["compile", "resnet18-nlp-122"],
    ],
    ids=" ".join,
)
def test_answers_without_torch(words: list[str]) -> None:
    program = f"""
import json, sys, sapoolc
try:
    sapoolc.main({words!r})
except SystemExit:
    pass
heavy = {{"torch", "torchvision", "numpy", "networkx", "lightning", "sklearn", "pydantic"}} & set(sys.modules)
print(json.dumps(sorted(heavy)))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout.splitlines()[-1]) == []


# Plain lines where a program reads, tables where a person does


@pytest.mark.parametrize("words", [["compile", TEXT], ["inspect", TEXT, "--nodes"], ["inspect", TEXT, "--code"]])
def test_output_is_plain_and_not_wrapped(run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    wide = run(*words).out
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    narrow = run(*words).out
    assert "\x1b" not in narrow
    assert narrow == wide
    assert max(map(len, narrow.splitlines())) > 40


def test_long_lines_are_not_wrapped(run: Run) -> None:
    torch.save(models.resnet18().state_dict(), "weights.pt")
    answer = run("compile", *TINY, "--weights", "weights.pt")
    told = next(line for line in answer.out.splitlines() if line.startswith("weights: "))
    assert "layer2.0.* (18 tensors, no such keys), layer2.1.* (12 tensors, no such keys), " in told
    assert told.endswith("and 3 more")


def test_code_is_not_wrapped(run: Run) -> None:
    text = "mobilenet-lip-1222121"
    answer = run("inspect", text, "--features-only", "--code")
    assert answer.out.strip() == sapool.compile(text, features_only=True).code.strip()


def test_tables_fit_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    answer = run("compile", TEXT, *SMALL)
    assert "\x1b[1m" in answer.out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", answer.out)
    for word in ("channels", "embedding", "stage2", "stride", "tokens"):
        assert word in plain, f"'{word}' is broken in two on 80 columns"
