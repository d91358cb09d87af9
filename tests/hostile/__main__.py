"""`python -m tests.hostile`: tries every kind for its share of the time, and prints the table of what came of it."""

from __future__ import annotations

import argparse
import sys

from tests.hostile import kinds
from tests.hostile.trying import OTHER, REFUSED, RIGHT, Count, attempt, count

SHOWN = 12


def main() -> int:
    known = kinds()
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=None, help="of all kinds together (default: rounds as in tests)"
    )
    parser.add_argument("--rounds", type=int, default=None, help="of each kind besides its corpus, in place of minutes")
    parser.add_argument("--kind", action="append", choices=list(known), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="another one tries other inputs")
    parser.add_argument("--only", type=int, help="one try of one kind, in this process, with its traceback")
    options = parser.parse_args()
    chosen = [known[name] for name in options.kind or known]
    if options.only is not None:
        if chosen[0].setting_up is not None:
            chosen[0].setting_up()
        print(*attempt(chosen[0], options.only, options.seed, debug=True))
        return 0
    counts = []
    for kind in chosen:
        share = options.minutes / len(chosen) if options.minutes else None
        counts.append(
            count(kind, seed=options.seed, minutes=share, rounds=None if share else options.rounds or kind.rounds or 1)
        )
        print(f"{kind.name}: {counts[-1].tried} tried", file=sys.stderr)
        for failure in counts[-1].failures[:SHOWN]:
            print(failure, file=sys.stderr, flush=True)
    print(table(counts))
    return int(any(one.failures for one in counts))


def table(counts: list[Count]) -> str:
    """The counts in Markdown."""
    columns = ("tried", "refused in a sentence", "accepted and right", "anything else")
    rows = [(one.kind, one.tried, *(one.outcomes[name] for name in (REFUSED, RIGHT, OTHER))) for one in counts]
    rows.append(("all", *(sum(row[place] for row in rows) for place in range(1, 5))))
    lines = ["| " + " | ".join(("input", *columns)) + " |", "|---|" + "---:|" * len(columns)]
    return "\n".join(
        [*lines, *("| " + " | ".join(f"{c:,}" if isinstance(c, int) else c for c in r) + " |" for r in rows)]
    )


if __name__ == "__main__":
    sys.exit(main())
