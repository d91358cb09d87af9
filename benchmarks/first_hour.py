"""The first hour, typed into real terminals: `python -m benchmarks.first_hour` writes docs/first-hour.md.

Every command is typed into tmux at 80x24, and those whose output depends on the width at 140x40 again; what the page
shows is what the screen showed. Needs tmux, and `sapoolc` in the path; takes some minutes.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "first-hour.md"
PROMPT, PATIENCE = "$ ", 900.0
ARCHITECTURE = "mobilenet-nlp_headfix2_nowin_reduced-1222121"
TRAINED = "resnet18-nlp_headfix2_nowin_reduced-1222"
OWN = ("train.epochs=6", "train.steps_per_epoch=20", "train.batch_size=32")

HEAD = """\
# The first hour

Typed into a terminal of 80 columns and 24 lines by `python -m benchmarks.first_hour`, after the README's first command.
The commands whose output depends on the width stand at the end again, at 140 columns. Times are those of two CPU cores.

"""


@dataclass(frozen=True)
class Step:
    """Something typed.

    Attributes:
        title: of its section.
        command: the line.
        interrupt: Ctrl-C is typed once this is on the screen.
    """

    title: str
    command: str
    interrupt: str = ""


DIGITS = (
    "python -c \"import os; from PIL import Image; from sklearn.datasets import load_digits; os.mkdir('images'); "
    "[Image.fromarray((15 * x).astype('uint8')).save(f'images/{i}.png') "
    'for i, x in enumerate(load_digits().images[:6])]"'
)

STEPS = (
    Step("What there is", "sapoolc list poolings"),
    Step("Compile", f"sapoolc compile {ARCHITECTURE}"),
    Step("A mistake", "sapoolc compile mobilenet-npl-1222121"),
    Step("Look into it", f"sapoolc inspect {ARCHITECTURE} | head -20"),
    Step("Train", f"sapoolc train digits architecture={TRAINED} {' '.join(OWN)} --run-dir first", "4/6"),
    Step("Go on", "sapoolc train --resume --run-dir first"),
    Step("What it has learned", "sapoolc evaluate first"),
    Step("Images of one's own", DIGITS),
    Step("", "sapoolc predict first images"),
    Step("Where it looks", "sapoolc heatmap first images -o looks"),
    Step("Another pooling", f"sapoolc train digits architecture=resnet18-skip-1222 {' '.join(OWN)} --run-dir second"),
    Step("Side by side", "sapoolc compare first second"),
    Step("Less memory", f"sapoolc compile {ARCHITECTURE} --image-size 96 --budget 64KB | tail -18"),
)

WIDE = (
    STEPS[1],
    STEPS[3],
    Step("", f"sapoolc train digits architecture={TRAINED} {' '.join(OWN)} --run-dir third"),
    Step("", "sapoolc compare first second third"),
    STEPS[-1],
)


class Terminal:
    """A terminal of tmux with a shell in it.

    Args:
        columns: its width.
        lines: its height.
        folder: where the shell is.
    """

    def __init__(self, columns: int, lines: int, folder: str) -> None:
        self.name = f"sapool-{columns}"
        size = ("-x", str(columns), "-y", str(lines))
        self._tmux("new-session", "-d", "-s", self.name, *size, "-c", folder, "bash --norc --noprofile")
        self._tmux("set-option", "-t", self.name, "history-limit", "5000")
        self.type(f"PS1='{PROMPT}'; clear")
        time.sleep(1)

    def _tmux(self, *words: str) -> str:
        return subprocess.run(["tmux", *words], check=True, capture_output=True, text=True).stdout

    def type(self, line: str) -> None:
        self._tmux("send-keys", "-t", self.name, "-l", line)
        self._tmux("send-keys", "-t", self.name, "Enter")

    def screen(self) -> str:
        """Everything since it was cleared."""
        return self._tmux("capture-pane", "-p", "-t", self.name, "-S", "-")

    def shows(self, step: Step) -> str:
        """What is on the screen when a command has ended: the command and its output."""
        self._tmux("send-keys", "-t", self.name, "-R")
        self._tmux("clear-history", "-t", self.name)
        self.type(step.command)
        until, interrupted = time.monotonic() + PATIENCE, not step.interrupt
        time.sleep(1)
        while time.monotonic() < until:
            text = self.screen().rstrip()
            if not interrupted and step.interrupt in text.replace(step.command, ""):
                time.sleep(1)
                self._tmux("send-keys", "-t", self.name, "C-c")
                interrupted = True
            if text.endswith("\n" + PROMPT.strip()):
                return text.removesuffix(PROMPT.strip()).strip()
            time.sleep(0.3)
        raise TimeoutError(f"{step.command} goes on:\n{self.screen()}")

    def close(self) -> None:
        self._tmux("kill-session", "-t", self.name)


def played(columns: int, lines: int, steps: tuple[Step, ...], folder: str) -> str:
    """The page's part for one width."""
    parts = []
    terminal = Terminal(columns, lines, folder)
    try:
        for step in steps:
            title = f"## {step.title}\n\n" if step.title and steps is STEPS else ""
            shown = "\n".join(line.rstrip() for line in terminal.shows(step).replace(folder, "~").splitlines())
            parts.append(f"{title}```\n{shown}\n```\n")
    finally:
        terminal.close()
    return "\n".join(parts)


def main() -> None:
    """Plays both and writes the page."""
    with tempfile.TemporaryDirectory() as folder:
        narrow, wide = played(80, 24, STEPS, folder), played(140, 40, WIDE, folder)
    PAGE.write_text(f"{HEAD}{narrow}\n## At 140 columns\n\n{wide}", encoding="utf-8")


if __name__ == "__main__":
    main()
