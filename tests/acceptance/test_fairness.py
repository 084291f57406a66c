"""Owners share a daemon: what one of them fills or blocks stops no other."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.acceptance.test_public_address import bearer, key_of, stream
from tests.harness.daemon import Daemon, daemon
from tests.harness.waiting import until

pytestmark = pytest.mark.acceptance

SILENT = "silent"
# Threads of the worker that claim.
CLAIMED_AT_ONCE = 6


@contextlib.contextmanager
def silent_provider() -> Iterator[str]:
    """A provider that accepts every connection and answers none; yields its URL."""
    held: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                held.append(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for each in held:
                each.close()


class Client:
    """The API with the key of one owner."""

    def __init__(self, daemon: Daemon, owner: str, scope: str = "write") -> None:
        self.daemon, self.owner = daemon, owner
        self.headers = bearer(key_of(daemon, owner, scope))

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        options = {} if body is None else {"json": body}
        answer = self.daemon.api.request(method, path, headers=self.headers, **options)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def session(self, profile: str) -> str:
        """Create and start a session; return its path."""
        body = {"profile_name": profile, "amplified_dir": self.owner}
        created = self.ask("POST", "/sessions/", body, 201)
        path = f"/sessions/{created['sessionId']}"
        self.ask("POST", f"{path}/start", status=204)
        return path

    def send(self, path: str) -> None:
        self.ask("POST", f"{path}/send-message", {"content": "hello"}, 202)

    def milliseconds_to_answer(self, path: str) -> float:
        """Send a message, and return how long its first output takes; it is waited for whole."""
        events = stream(self.daemon, f"{path}/stream", self.headers)
        assert next(events) == "connected"
        began = time.monotonic()
        self.send(path)
        assert "content" in events
        taken = time.monotonic() - began
        assert "assistant_message_complete" in events
        return 1000 * taken

    def count_running(self) -> int:
        """Return how many of the owner's sessions have a run that is running."""
        return sum(bool(each["activeRunId"]) for each in self.ask("GET", "/sessions/active/list"))


@contextlib.contextmanager
def sharing(home: Path, **settings: str) -> Iterator[Daemon]:
    """A daemon with keys and one worker, whose profile `local/silent` never gets an answer."""
    keys = {"AMPLIFIERD_REQUIRE_KEYS": "1", "AMPLIFIERD_OUTBOUND_HOSTS": "127.0.0.1"}
    with silent_provider() as url, daemon(home, **keys, AMPLIFIERD_DRAIN="1", **settings) as shared:
        config = {"base_url": url, "default_model": "none", "timeout": 600}
        provider = {"module": "provider-openai-compatible", "config": config}
        admin = Client(shared, "root", "admin")
        admin.ask("POST", "/profiles/", {"name": SILENT, "providers": [provider]}, 201)
        yield shared


@pytest.mark.parametrize(
    ("places", "silent"), [(20, 25), pytest.param(150, 200, marks=pytest.mark.long)]
)
def test_silent_runs_of_one_owner_hold_no_place_of_another(
    tmp_path: Path, places: int, silent: int
) -> None:
    with sharing(tmp_path / "home", AMPLIFIERD_CONCURRENCY=str(places)) as shared:
        greedy, other = Client(shared, "greedy"), Client(shared, "other")
        path = other.session("foundation/test")
        other.milliseconds_to_answer(path)
        idle = [other.milliseconds_to_answer(path) for _ in range(5)]
        for _ in range(silent):
            greedy.send(greedy.session(f"local/{SILENT}"))
        most = places // 2
        until(lambda: greedy.count_running() >= most, f"{most} silent runs")
        beside = [other.milliseconds_to_answer(path) for _ in range(5)]
        # None of them has ended meanwhile. A few more may be claimed at the same moment.
        assert most <= greedy.count_running() <= most + CLAIMED_AT_ONCE
        print(
            f"hello: {median(idle):.0f} ms on an idle daemon, {median(beside):.0f} ms beside"
            f" {silent} silent runs of another owner, on a worker with {places} places"
        )
