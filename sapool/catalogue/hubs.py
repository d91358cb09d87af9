"""Whether a hub of weights answers, asked once and briefly, before libraries that go on asking for a minute."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch

SECONDS = 4.0
"""How long an answer may take."""

HUGGING_FACE = "https://huggingface.co"


def silence(address: str) -> str | None:
    """Why a server doesn't answer, or None where it does, whatever its answer is.

    Goes the way of any download, proxies included. A name server that doesn't answer counts, too.

    Args:
        address: something that it serves.
    """
    told: list[str | None] = []

    def ask() -> None:
        try:
            with urlopen(Request(address, method="HEAD"), timeout=SECONDS):
                told.append(None)
        except HTTPError:
            told.append(None)
        except (OSError, ValueError) as error:
            told.append(str(getattr(error, "reason", error)))

    asking = threading.Thread(target=ask, daemon=True)  # nothing ends a question to a name server
    asking.start()
    asking.join(SECONDS)
    return told[0] if told else f"no answer within {SECONDS:g} seconds"


def is_cached(address: str) -> bool:
    """Whether torch's hub has downloaded a file before."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(address).path).name).exists()


@contextmanager
def briefly_asked_hub() -> Iterator[str | None]:
    """Has Hugging Face's library look into its cache alone where its hub doesn't answer; gives the reason then."""
    from huggingface_hub import constants  # noqa: PLC0415 - timm's

    reason, before = silence(os.environ.get("HF_ENDPOINT", HUGGING_FACE)), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or reason is not None
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = before
