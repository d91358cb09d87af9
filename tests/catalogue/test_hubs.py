"""Hubs that don't answer are found out at once, whatever libraries would make of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from sapool.catalogue import hubs


@pytest.fixture
def server() -> Iterator[str]:
    """One that has nothing of what it is asked for."""

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    serving = HTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}/weights.pth"
    serving.shutdown()
    serving.server_close()


def test_any_answer_is_one(server: str) -> None:
    assert hubs.silence(server) is None


def test_no_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "refused" in str(hubs.silence(f"http://127.0.0.1:{port}/x"))
    assert hubs.silence("nonsense") is not None


def test_a_server_that_only_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "SECONDS", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        begun = time.monotonic()
        assert hubs.silence(f"http://127.0.0.1:{deaf.getsockname()[1]}/x") is not None
        assert time.monotonic() - begun < 5


def test_the_cache_alone_is_asked_while_a_hub_is_silent(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    before = constants.HF_HUB_OFFLINE
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with hubs.briefly_asked_hub() as reason:
        assert reason is not None
        assert constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE
    monkeypatch.setenv("HF_ENDPOINT", server)
    with hubs.briefly_asked_hub() as reason:
        assert reason is None
        assert before == constants.HF_HUB_OFFLINE


def test_what_was_downloaded_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert not hubs.is_cached("https://example.org/a/b.pth?x=1")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "b.pth").touch()
    assert hubs.is_cached("https://example.org/a/b.pth?x=1")
