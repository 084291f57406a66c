"""The web process as the supervisor starts it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from amplifierd.common.program import BASE_DIR
from amplifierd.supervisor.supervisor import PARENT_FD
from tests.harness import plain

SECONDS = 30
NO_DATABASE = "postgresql://nobody@/nothing?host=/nonexistent"


class Web:
    """`manage.py run_web` on an inherited socket, with no database to talk to."""

    def __init__(self, listener: socket.socket) -> None:
        self.url = "http://{}:{}".format(*listener.getsockname())
        self.lifeline: int | None
        lifeline, self.lifeline = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "run_web", "--fd", str(listener.fileno())],
            cwd=BASE_DIR,
            pass_fds=[listener.fileno(), lifeline],
            env={**os.environ, "DATABASE_URL": NO_DATABASE, PARENT_FD: str(lifeline)},
        )
        os.close(lifeline)

    def get(self, path: str) -> httpx.Response:
        return plain.get(f"{self.url}{path}", timeout=SECONDS)

    def die_as_parent(self) -> None:
        """Do what the kernel does when the parent dies: close its end of the pipe."""
        if self.lifeline is not None:
            os.close(self.lifeline)
        self.lifeline = None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.die_as_parent()


@contextmanager
def running() -> Iterator[Web]:
    """A web process that runs while the block does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        web = Web(listener)
        try:
            yield web
        finally:
            web.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Web]:
    """A web process that outlives the test."""
    with running() as web:
        yield web


@pytest.fixture
def web() -> Iterator[Web]:
    """A web process that the test may end."""
    with running() as web:
        yield web


def test_process_without_a_database_is_alive_and_says_what_is_missing(shared: Web) -> None:
    assert shared.get("/livez").status_code == 200
    assert shared.get("/api/v1/status").json()["status"] == "running"
    for path in ("/readyz", "/api/v1/sessions/session_0/stream"):
        answer = shared.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"


def test_static_files_of_the_admin_are_served(shared: Web) -> None:
    answer = shared.get("/static/admin/css/base.css")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/css")
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_every_answer_passes_the_security_middleware(shared: Web) -> None:
    stranger = {"Host": "evil.example"}
    for path in ("/livez", "/static/admin/css/base.css", "/api/v1/sessions/session_0/stream"):
        assert (
            plain.get(f"{shared.url}{path}", headers=stranger, timeout=SECONDS).status_code == 421
        )


def test_process_ends_in_order_by_a_signal(web: Web) -> None:
    assert web.get("/livez").status_code == 200
    web.process.send_signal(signal.SIGTERM)
    assert web.process.wait(SECONDS) == 0


def test_process_ends_in_order_when_its_parent_has_died(web: Web) -> None:
    assert web.get("/livez").status_code == 200
    web.die_as_parent()
    assert web.process.wait(SECONDS) == 0
