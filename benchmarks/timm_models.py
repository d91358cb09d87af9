"""Which of timm's models can be compiled: `python -m benchmarks.timm_models` writes the table that is listed.

Every model is surveyed on tensors without data, a batch of them in a process of its own, so that one that crashes or
never ends takes nothing else along. Run it again for another release of timm: what the table has is kept with `--keep`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator

import timm

import sapool
from sapool.catalogue.timm_models import TABLE, read_table
from sapool.weights.atomic import write_text

BATCH, SECONDS = 40, 600


def strides(names: list[str]) -> Iterator[tuple[str, str]]:
    """The strides of models' stages, "" where they can't be compiled."""
    code = "import sys; from benchmarks.timm_models import tell; tell(sys.argv[1:])"
    while names:
        try:
            done = subprocess.run(
                [sys.executable, "-c", code, *names[:BATCH]],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            ).stdout
        except subprocess.TimeoutExpired as late:
            done = (late.stdout or b"").decode()
        told = [line.split("\t") for line in done.splitlines() if "\t" in line]
        yield from ((name, found) for name, found in told)
        if len(told) < len(names[:BATCH]):
            yield names[len(told)], ""  # it took the process with it
            names = names[len(told) + 1 :]
        else:
            names = names[BATCH:]


def tell(names: list[str]) -> None:
    """Prints a line for each: what a process of `strides` does."""
    for name in names:
        try:
            found = sapool.survey(f"timm:{name}").unchanged
        except Exception:  # whatever a model has that isn't traced
            found = ""
        print(f"{name}\t{found}", flush=True)


def main() -> None:
    """Surveys them and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="try only models that the table doesn't have")
    options = parser.parse_args()
    known = dict(read_table()) if options.keep else {}
    for name, found in strides([name for name in timm.list_models() if name not in known]):
        known[name] = found
        print(f"{name}\t{found or 'no'}", flush=True)
    lines = [f"# timm {timm.__version__}: strides of the stages, nothing where a model can't be compiled"]
    write_text(TABLE, "\n".join(lines + [f"{name}\t{known[name]}" for name in sorted(known)]) + "\n")


if __name__ == "__main__":
    main()
