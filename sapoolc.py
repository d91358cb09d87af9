"""The command line: `sapoolc compile|inspect|train|list` and what follows training. `sapool.cli` has the commands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, as `sapool.cli.main.main`; signals are heeded before the commands are imported.

    Args:
        arguments: the command and its own; None for the process's.
    """
    if arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports that follow
    from sapool.runs.process.signals import ending_at_once  # noqa: PLC0415

    with ending_at_once(for_good=arguments is None):
        from sapool.cli.main import main as run  # noqa: PLC0415

        return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
