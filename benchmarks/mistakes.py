"""How long `sapoolc` takes to answer mistakes: `python -m benchmarks.mistakes` writes docs/mistakes.md.

Every command of tests/cli/mistakes.toml runs in a process of its own; what is written down is the least CPU time of
three (user and system), which a machine that does something else at the same time lengthens least.
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.cli.mistakes import lay_out

ROOT = Path(__file__).parents[1]
ROUNDS = 3

HEAD = """\
# Mistakes, and what is said of them

Written by `python -m benchmarks.mistakes` from `tests/cli/mistakes.toml`, which a test iterates. Each command runs in a
process of its own; the seconds are CPU time, the least of {rounds} runs ({cpu}). None of them loads torch.

| command | seconds | answer |
|---|---|---|
"""


def seconds(command: str, folder: Path) -> float:
    """CPU time that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "sapoolc", *shlex.split(command)], cwd=folder, capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measures all of them and writes the page."""
    entries = tomllib.loads((ROOT / "tests" / "cli" / "mistakes.toml").read_text(encoding="utf-8"))["mistake"]
    lines, longest = [], 0.0
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name))
        for entry in entries:
            least = min(seconds(entry["command"], Path(name)) for _ in range(ROUNDS))
            longest = max(longest, least)
            answer = "<br>".join(line.replace("|", "\\|") for line in entry["answer"].strip().splitlines())
            command = entry["command"].replace("|", "\\|")
            lines.append(f"| `sapoolc {command}` | {least:.2f} | {answer.replace('sapoolc: ', '', 1)} |")
    text = HEAD.format(rounds=ROUNDS, cpu=f"{os.cpu_count()} cores")
    (ROOT / "docs" / "mistakes.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} commands, the longest {longest:.2f} s")


if __name__ == "__main__":
    main()
