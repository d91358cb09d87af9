"""Where the mistakes of `mistakes.toml` are made."""

from __future__ import annotations

from pathlib import Path

from sapool.digests import with_digest


def lay_out(folder: Path) -> None:
    """Fills an empty folder with what the commands speak of: a run that was begun, and folders without images."""
    run = folder / "runs" / "first"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(with_digest('extends = "digits"\n'), encoding="utf-8")
    for name in ("photos", "empty"):
        (folder / name).mkdir()
    (folder / "photos" / "one.png").touch()
