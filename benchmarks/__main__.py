"""`python -m benchmarks`: time and peak memory of ours against a baseline, as ratios; `--markdown` for the README.

Times are taken alternately in one process and compared by their medians; memory is the resident peak above the model
and its input, each subject in a process of its own. Linux only (`/proc`).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from typing import Any

import torch

from benchmarks import engines, floor, published
from benchmarks.cases import TABLES, Case
from benchmarks.measure import in_turn, resident, work
from benchmarks.subjects import build
from sapool.errors import InputError


def time_ratio(case: Case, batch: int, repeats: int, factory: published.Factory | None = None) -> tuple[float, float]:
    """Median seconds of ours and the baseline, run in turn."""
    x = torch.randn(batch, 3, case.size, case.size)
    ours, baseline = (work(build(name, case, factory), case.mode, x) for name in (case.ours, case.baseline))
    return in_turn(ours, baseline, repeats)


def peak(case: Case, name: str, batch: int, factory: published.Factory | None = None) -> int:
    """KiB of resident memory above the model and its input."""
    model, x = build(name, case, factory), torch.randn(batch, 3, case.size, case.size)
    return resident(work(model, case.mode, x))


def main(arguments: list[str] | None = None) -> int:
    """Runs every comparison, or the one that a child process is asked for; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except InputError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--table", choices=TABLES, default="readme", help="the comparisons (default: the README's)")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the comparisons, from 0")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--floor", action="store_true", help="how far self-attentive networks are from their limit")
    parser.add_argument("--engines", action="store_true", help="PyTorch, -O, torch.compile and ONNX Runtime")
    parser.add_argument(
        "--published", metavar="PATH", help="a checkout of the authors' code; compares with it, running it"
    )
    parser.add_argument("--published-factory", metavar="MODULE:FUNCTION", help="what makes a network of a string there")
    parser.add_argument("--no-memory", action="store_true", help="measure times only")
    parser.add_argument("--markdown", action="store_true", help="print a table for the README")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser


def _run(options: argparse.Namespace) -> None:
    for name in ("batch", "repeats", "threads"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name}: expected a whole number from 1 on, not {getattr(options, name)}")
    torch.set_num_threads(options.threads)
    place = None
    if options.published is not None or options.published_factory is not None:
        place = published.checked(options.published, options.published_factory)
        options.table = "published"
    elif options.table == "published":
        raise InputError("--table published: say where the authors' code is, with --published PATH")
    cases = TABLES[options.table]
    last = len(engines.NAMES if options.engines else cases) - 1
    for number in options.only or ():
        if not 0 <= number <= last:
            raise InputError(f"--only: the table has comparisons 0 to {last}, not {number}")
    if options.child:
        case, what = cases[int(options.child[0])], options.child[1]
        factory = None if place is None else published.found(*place)
        timed = what == "time"
        numbers = time_ratio(case, options.batch, options.repeats, factory) if timed else None
        print(json.dumps(numbers or peak(case, what, options.batch, factory)))
        return
    if options.floor:
        tell_floor(options)
        return
    if options.engines:
        names = [engines.NAMES[number] for number in options.only or range(last + 1)]
        engines.tell(names, options.batch, options.threads, options.repeats)
        return
    if options.markdown:
        columns = ["network", "time"] + ["peak memory"] * (not options.no_memory)
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for number in options.only or range(len(cases)):
        _report(number, options)
    print(f"\nbatch {options.batch}, {options.threads} threads, {platform.machine()}, torch {torch.__version__}")


def tell_floor(options: argparse.Namespace) -> None:
    """Prints each self-attentive network beside the time that it can't go below here."""
    rates = floor.rates()
    print(
        f"{rates.products / 1e9:.0f}e9 multiply-accumulates and {rates.exponentials / 1e9:.2f}e9 exponentials a second"
    )
    for name in floor.NAMES:
        for mode in ("forward", "step"):
            case = Case(name, 128, mode, floor.twin(name))
            further = floor.work(build("compiled", case), build(case.baseline, case))  # type: ignore[arg-type]
            ours, twin = time_ratio(case, options.batch, options.repeats)
            limit = twin + further.seconds(rates, options.batch, mode)
            print(
                f"`{name}`, {mode}: {ours:.3f} s, at least {limit:.3f} ({ours / limit:.2f}); avgp {twin:.3f}",
                flush=True,
            )


def _report(number: int, options: argparse.Namespace) -> None:
    case = TABLES[options.table][number]
    ours, base = _child(number, "time", options)
    rows = [("time", ours / base, f"{ours:.3f}/{base:.3f} s", case.most[0])]
    if not options.no_memory:
        mine, other = _child(number, case.ours, options), _child(number, case.baseline, options)
        rows.append(("memory", mine / max(other, 1), f"{mine / 1024:.0f}/{other / 1024:.0f} MiB", case.most[1]))
    shown = [f"{ratio:.2f}" + (f" (at most {most:.2f})" if most else "") for _, ratio, _, most in rows]
    if options.markdown:
        print(f"| {case} | {' | '.join(shown)} |", flush=True)
    else:
        words = [f"{what} {ratio} ({of})" for (what, _, of, _), ratio in zip(rows, shown, strict=True)]
        print(f"{case}: {', '.join(words)}", flush=True)


def _child(number: int, what: str, options: argparse.Namespace) -> Any:
    """What a process of its own measures.

    Raises:
        InputError: what it says that is wrong.
    """
    flags = ["--batch", str(options.batch), "--repeats", str(options.repeats), "--threads", str(options.threads)]
    if options.published:
        flags += ["--published", options.published, "--published-factory", options.published_factory]
    else:
        flags += ["--table", options.table]
    command = [sys.executable, "-m", "benchmarks", "--child", str(number), what, *flags]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 2:
        raise InputError(done.stderr.strip().splitlines()[-1].removeprefix("python -m benchmarks: "))
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return json.loads(done.stdout.strip().splitlines()[-1])  # whatever else the authors' code prints stands before it


if __name__ == "__main__":
    sys.exit(main())
