"""The web process as the supervisor starts it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from amplifierd.common.program import BASE_DIR
from amplifierd.supervisor.supervisor import PARENT_FD

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
        return httpx.get(f"{self.url}{path}", timeout=SECONDS)

    def die_as_parent(self) -> None:
        """Do what the kernel does when the parent dies: close its end of the pipe."""
        if self.lifeline is not None:
            os.close(self.lifeline)
        self.lifeline = None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.die_as_parent()


@pytest.fixture
def web() -> Iterator[Web]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        web = Web(listener)
        try:
            yield web
        finally:
            web.stop()


def test_process_without_a_database_is_alive_and_says_what_is_missing(web: Web) -> None:
    assert web.get("/livez").status_code == 200
    assert web.get("/api/v1/status").json()["status"] == "running"
    for path in ("/readyz", "/api/v1/sessions/session_0/stream"):
        answer = web.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"


def test_static_files_of_the_admin_are_served(web: Web) -> None:
    answer = web.get("/static/admin/css/base.css")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/css")
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_every_answer_passes_the_security_middleware(web: Web) -> None:
    stranger = {"Host": "evil.example"}
    for path in ("/livez", "/static/admin/css/base.css", "/api/v1/sessions/session_0/stream"):
        assert httpx.get(f"{web.url}{path}", headers=stranger, timeout=SECONDS).status_code == 421


def test_process_ends_in_order_by_a_signal(web: Web) -> None:
    assert web.get("/livez").status_code == 200
    web.process.send_signal(signal.SIGTERM)
    assert web.process.wait(SECONDS) == 0


def test_process_ends_in_order_when_its_parent_has_died(web: Web) -> None:
    assert web.get("/livez").status_code == 200
    web.die_as_parent()
    assert web.process.wait(SECONDS) == 0
