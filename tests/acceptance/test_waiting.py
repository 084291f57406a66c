"""A message that is sent, and its answer, in one request to a real daemon."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from amplifierd.auth.keys import digest_of
from amplifierd.postgres import embedded_url
from tests.acceptance.test_public_address import bearer
from tests.harness import plain
from tests.harness.daemon import PATIENCE, Daemon
from tests.harness.waiting import until

pytestmark = pytest.mark.acceptance
THREADS = 2
# Fewer than the requests of one client that may wait for these threads.
ENOUGH = 24


class Waiter:
    """A client with a key of its own; each of its requests is a connection of its own."""

    def __init__(self, own: Daemon, key: str) -> None:
        self.own = own
        self.key = key

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("POST", path, **options)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = bearer(self.key) | options.pop("headers", {})
        url = f"{self.own.url}/api/v1{path}"
        return plain.request(method, url, headers=headers, timeout=PATIENCE, **options)

    def session(self) -> str:
        body = {"profile_name": "foundation/test", "amplified_dir": "alice"}
        made = self.post("/sessions/", json=body).json()
        self.post(f"/sessions/{made['sessionId']}/start").raise_for_status()
        return str(made["sessionId"])

    def send(
        self, session_id: str, content: str, place: str = "", **headers: str
    ) -> httpx.Response:
        """Send a message to `send-message` and what is to follow it, or to another endpoint."""
        path = place if place.startswith("execute") else f"send-message{place}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"content": content}
        return self.post(f"/sessions/{session_id}/{path}", json=body, headers=names)


def add_key(own: Daemon, owner: str, scope: str = "write") -> str:
    """Put a key into the daemon's table, as `apikeys create` does, and return it."""
    prefix = f"{owner}{scope}"[:8]
    key = f"amp_{prefix}_{'x' * 43}"
    with psycopg.connect(embedded_url(own.home)) as connection:
        connection.execute(
            "INSERT INTO amplifierd_apikey (prefix, digest, name, owner, scope)"
            " VALUES (%s, %s, %s, %s, %s)",
            [prefix, digest_of(key), owner, owner, scope],
        )
        connection.execute(
            "INSERT INTO profiles_app_amplifieddirectory (relative_path, owner, default_profile,"
            " metadata, created_at, updated_at) VALUES (%s, %s, 'foundation/base', '{}', now(),"
            " now())"
            " ON CONFLICT DO NOTHING",
            [owner, owner],
        )
    return key


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with one web process of two threads, which asks for keys."""
    daemon = Daemon(
        tmp_path_factory.mktemp("waiting") / "home",
        AMPLIFIERD_WEB="1",
        AMPLIFIERD_THREADS=str(THREADS),
        AMPLIFIERD_POOL=str(THREADS + 1),
        AMPLIFIERD_REQUIRE_KEYS="1",
    )
    try:
        daemon.start()
        daemon.keys = {
            "alice": add_key(daemon, "alice"),
            "bob": add_key(daemon, "bob"),
            "reader": add_key(daemon, "alice", "read"),
        }
        yield daemon
    finally:
        daemon.discard()


@pytest.fixture(scope="module")
def alice(own: Daemon) -> Waiter:
    return Waiter(own, own.keys["alice"])


@pytest.mark.parametrize("place", ["?wait=30", "?wait=30.5", "?wait=9999", "?wait", "execute"])
def test_an_answer_in_time_comes_with_its_run(alice: Waiter, place: str) -> None:
    session_id = alice.session()
    answer = alice.send(session_id, "hello", place)
    assert answer.status_code == 200, answer.text
    run, message = answer.json()["run"], answer.json()["message"]
    assert set(answer.json()) == {"run", "message"}
    assert (run["status"], run["sessionId"]) == ("succeeded", session_id)
    assert run == alice.get(f"/sessions/{session_id}/runs/{run['runId']}").json()
    assert message == alice.get(f"/sessions/{session_id}/transcript").json()[-1]
    assert message["runId"] == run["runId"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["cache-control"] == "no-store"


def test_a_preference_is_applied_and_says_so(alice: Waiter) -> None:
    answer = alice.send(alice.session(), "hello", Prefer="respond-async, wait=30")
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=30")


@pytest.mark.parametrize(
    "place", ["", "?wait=0", "execute?wait=0", "?wait=0.3", "execute?wait=0.3"]
)
def test_an_answer_that_is_late_is_accepted_as_usual(alice: Waiter, place: str) -> None:
    session_id = alice.session()
    begun = time.monotonic()
    answer = alice.send(session_id, "BENCH tokens=60 delay_ms=50", place)
    assert 0.3 * ("0.3" in place) <= time.monotonic() - begun < 2.5
    assert (answer.status_code, answer.json()["status"]) == (202, "executing")
    assert set(answer.json()) > {"runId", "messageId", "lastEventId", "sessionId"}


@pytest.mark.parametrize("wait", ["soon", "-1", "1e", "nan", "1,5"])
@pytest.mark.parametrize("path", ["send-message", "execute"])
def test_what_is_no_number_is_refused_and_nothing_is_sent(
    alice: Waiter, path: str, wait: str
) -> None:
    session_id = alice.session()
    place = f"execute?wait={wait}" if path == "execute" else f"?wait={wait}"
    answer = alice.send(session_id, "hello", place)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "wait")
    assert alice.get(f"/sessions/{session_id}/transcript").json() == []


def test_a_run_that_fails_or_is_cancelled_is_an_answer_too(alice: Waiter) -> None:
    session_id = alice.session()
    failed = alice.send(session_id, "BENCH tokens=9 fail_after=0", "?wait=30").json()
    assert (failed["run"]["status"], failed["message"]) == ("failed", None)
    partly = alice.send(session_id, "BENCH tokens=9 fail_after=2", "?wait=30").json()
    assert (partly["run"]["status"], partly["message"]["content"]) == ("failed", " tok0 tok1")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(alice.send, session_id, "BENCH tokens=999 delay_ms=50", "?wait=60")
        until(
            lambda: alice.post(f"/sessions/{session_id}/cancel-execution").status_code == 202,
            "the run to be cancelled",
        )
        assert waiting.result().json()["run"]["status"] == "cancelled"


def test_what_is_not_accepted_is_answered_as_without_waiting(alice: Waiter) -> None:
    made = alice.post("/sessions/", json={"amplified_dir": "alice"}).json()["sessionId"]
    assert alice.send(made, "hello", "?wait=30").status_code == 409
    assert alice.send("session_none", "hello", "execute").status_code == 404
    path, kind = f"/sessions/{made}/execute/", {"Content-Type": "application/json"}
    assert alice.post(path, json={}).json()["code"] == "invalid"
    assert alice.post(path, content=b"{", headers=kind).json()["code"] == "parse_error"
    assert alice.get(path).status_code == 405


def test_a_session_that_is_deleted_meanwhile_ends_the_waiting(alice: Waiter) -> None:
    session_id = alice.session()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(alice.send, session_id, "BENCH tokens=999 delay_ms=50", "?wait=60")
        until(lambda: alice.get(f"/sessions/{session_id}/transcript").json(), "the message")
        begun = time.monotonic()
        assert alice.ask("DELETE", f"/sessions/{session_id}").status_code == 204
        answer = waiting.result()
        # Its run is cancelled first: that is told if it is read before all is gone.
        assert answer.status_code == 404 or answer.json()["run"]["status"] == "cancelled"
        assert time.monotonic() - begun < 10


def test_a_key_gives_the_first_answer_again(alice: Waiter) -> None:
    session_id = alice.session()
    first = alice.send(session_id, "hello", "?wait=30", Idempotency_Key="once")
    for place in ("?wait=30", "?wait=5", "?wait"):
        again = alice.send(session_id, "hello", place, Idempotency_Key="once")
        assert again.headers["idempotent-replayed"] == "true"
        assert (again.status_code, again.json()) == (200, first.json())
    accepted = alice.send(session_id, "hello", Idempotency_Key="once")
    assert (accepted.status_code, accepted.json()["runId"]) == (202, first.json()["run"]["runId"])
    assert alice.send(session_id, "other", "?wait=9", Idempotency_Key="once").status_code == 422
    assert len(alice.get(f"/sessions/{session_id}/transcript").json()) == 2


def test_a_retry_while_the_run_is_open_waits_for_the_same_run(alice: Waiter) -> None:
    session_id = alice.session()
    slow = (session_id, "BENCH tokens=20 delay_ms=50")
    first = alice.send(*slow, "?wait=0.2", Idempotency_Key="slow")
    assert first.status_code == 202
    again = alice.send(*slow, "?wait=30", Idempotency_Key="slow")
    assert (again.status_code, again.json()["run"]["runId"]) == (200, first.json()["runId"])
    assert len(alice.get(f"/sessions/{session_id}/runs").json()) == 1


def test_the_run_goes_on_when_its_client_leaves(own: Daemon, alice: Waiter) -> None:
    session_id = alice.session()
    body = b'{"content": "BENCH tokens=20 delay_ms=50"}'
    with socket.create_connection(("127.0.0.1", own.port), PATIENCE) as client:
        client.sendall(
            f"POST /api/v1/sessions/{session_id}/send-message?wait=60 HTTP/1.1\r\n"
            "Host: 127.0.0.1\r\n"
            f"Authorization: Bearer {own.keys['alice']}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until(lambda: alice.get(f"/sessions/{session_id}/runs").json(), "the run")

    def runs() -> list[dict[str, Any]]:
        return list(alice.get(f"/sessions/{session_id}/runs").json())

    until(lambda: runs()[0]["status"] == "succeeded", "the run to end")
    assert len(alice.get(f"/sessions/{session_id}/transcript").json()) == 2


def test_keys_scopes_and_owners_count(own: Daemon, alice: Waiter) -> None:
    session_id = alice.session()
    assert Waiter(own, own.keys["bob"]).send(session_id, "x", "?wait=9").status_code == 404
    assert Waiter(own, own.keys["reader"]).send(session_id, "x", "execute").status_code == 403
    assert Waiter(own, "amp_none").send(session_id, "x", "execute").status_code == 401
    assert alice.get(f"/sessions/{session_id}/transcript").json() == []


def test_those_who_wait_hold_neither_threads_nor_connections(own: Daemon, alice: Waiter) -> None:
    session_ids = [alice.session() for _ in range(ENOUGH)]
    inside = threading.Barrier(ENOUGH + 1)

    def wait(session_id: str) -> httpx.Response:
        client = Waiter(own, own.keys["alice"])
        inside.wait()
        return client.send(session_id, "BENCH tokens=2000 delay_ms=50", "?wait=60")

    def open_runs() -> int:
        found = alice.get("/sessions/active/list").json()
        return sum(row["activeRunId"] is not None for row in found)

    with ThreadPoolExecutor(ENOUGH) as pool:
        waiting = [pool.submit(wait, session_id) for session_id in session_ids]
        inside.wait()
        until(lambda: open_runs() >= 10, "the runs to begin")
        # Each of these needs one of the two threads, and the runs have not ended in the end.
        for session_id in session_ids:
            assert alice.get(f"/sessions/{session_id}").status_code == 200
        with psycopg.connect(embedded_url(own.home), autocommit=True) as connection:
            [(held,)] = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND state LIKE 'idle in transaction%'"
            ).fetchall()
        assert held == 0
        assert sum(not future.done() for future in waiting) >= 10
        # They would wait for a minute.
        until(lambda: open_runs() == ENOUGH, "all runs to begin")
        for session_id in session_ids:
            cancelled = alice.post(f"/sessions/{session_id}/cancel-execution")
            assert cancelled.status_code in (200, 202)
        assert {future.result().status_code for future in waiting} == {200}


def test_those_who_wait_are_answered_when_the_server_drains(tmp_path: Any) -> None:
    with_own = Daemon(tmp_path / "home", AMPLIFIERD_DRAIN="1")
    try:
        session_id = with_own.start().session()
        path = f"{with_own.url}/api/v1/sessions/{session_id}/send-message?wait=60"
        body = {"content": "BENCH tokens=2000 delay_ms=50"}
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(httpx.post, path, json=body, timeout=PATIENCE)
            until(lambda: with_own.transcript(session_id), "the message")
            with_own.stop()
            assert waiting.result().status_code == 202
    finally:
        with_own.discard()
