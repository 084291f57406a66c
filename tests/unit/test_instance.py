"""A data folder has one daemon, and a port one listener."""

import socket
import threading
from pathlib import Path

import pytest

from amplifierd.supervisor.instance import AlreadyRunning, PortTaken, address, claim, listen


def test_a_claimed_folder_is_refused_with_the_address_of_its_daemon(tmp_path: Path) -> None:
    with claim(tmp_path) as first:
        first.note("http://127.0.0.1:8420")
        with pytest.raises(AlreadyRunning, match=r"http://127\.0\.0\.1:8420, pid \d+"):
            claim(tmp_path).__enter__()


def test_a_daemon_that_is_only_starting_is_respected_too(tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(AlreadyRunning, match="already runs"):
        claim(tmp_path).__enter__()


def test_a_daemon_that_failed_leaves_no_note(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), claim(tmp_path) as failed:
        failed.note("http://127.0.0.1:8420")
        raise RuntimeError
    with claim(tmp_path) as next_one:
        assert not next_one.inherited


def test_a_killed_daemon_is_known_by_its_note(tmp_path: Path) -> None:
    (tmp_path / "serve.lock").write_text('{"pid": 1, "url": "http://127.0.0.1:8420"}')
    with claim(tmp_path) as next_one:
        assert next_one.inherited


def test_a_port_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port}"):
            listen("127.0.0.1", port)
        threading.Timer(0.2, taken.close).start()
        with listen("127.0.0.1", port, patience=20) as listener:
            assert address(listener) == f"http://127.0.0.1:{port}"


def test_an_address_of_another_machine_is_refused_at_once() -> None:
    with pytest.raises(PortTaken, match="AMPLIFIERD_HOST"):
        listen("192.0.2.1", 0, patience=60)
