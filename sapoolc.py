"""The command line: `sapoolc compile|inspect|train|list` and what follows training. `sapool.cli` has the commands."""

from __future__ import annotations

import sys

from sapool.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
