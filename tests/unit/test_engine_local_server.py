"""Starting the local model's server once per process."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.providers import local as module
from sessions_app.engine.providers.local import local_server


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which no server runs yet."""
    monkeypatch.setattr(module, "_running", {})


def test_threads_that_ask_at_once_start_one_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []

    def slow_start(path: Path, model: Any) -> object:
        time.sleep(0.05)  # long enough for every thread to ask
        started.append(path)
        return object()

    monkeypatch.setattr(module, "_start", slow_start)
    threads = [threading.Thread(target=local_server, args=(tmp_path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert started == [tmp_path]


def test_a_start_that_failed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError):
        local_server(tmp_path / "missing.gguf")
    server = object()
    monkeypatch.setattr(module, "_start", lambda path, model: server)
    assert local_server(tmp_path / "missing.gguf") is server
