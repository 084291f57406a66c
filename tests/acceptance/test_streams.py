"""What streams cost a web process: nothing that grows with what is unread or has gone."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import psycopg
import pytest

from amplifierd.postgres import embedded_url
from tests.harness.daemon import PATIENCE, Daemon, daemon
from tests.harness.waiting import until

pytestmark = pytest.mark.acceptance
MEGABYTE = 1024 * 1024
# Of one session in one web process, in these tests; and those that come and go together.
LIMIT, STREAMS = 60, 50
PIECE = 256 * 1024

# A commit of so many large events, as the service appends them, and a bell for it.
GROW = """
WITH session AS (
    UPDATE sessions_app_session SET last_event_seq = last_event_seq + %(count)s
    WHERE id = %(id)s RETURNING last_event_seq AS last
), event AS (
    INSERT INTO sessions_app_event (session_id, seq, type, data)
    SELECT %(id)s, last - %(count)s + n, 'content', jsonb_build_object('content', %(text)s::text)
    FROM session, generate_series(1, %(count)s) AS n
)
SELECT last FROM session
"""
BELL = "SELECT pg_notify('amplifierd_journal', %s)"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with one web process, which cuts clients soon."""
    home = tmp_path_factory.mktemp("streams") / "home"
    settings = {
        "AMPLIFIERD_WEB": "1",
        "AMPLIFIERD_MAX_STREAMS": str(LIMIT),
        "AMPLIFIERD_MAX_SESSION_STREAMS": str(LIMIT),
        "AMPLIFIERD_STREAM_STALL": "3",
    }
    with daemon(home, **settings) as running:
        yield running


@pytest.fixture
def web(own: Daemon) -> psutil.Process:
    (process,) = own.children("run_web")
    return process


def connect(own: Daemon, session_id: str, query: str = "") -> socket.socket:
    """Ask for a stream; nothing is read of it."""
    client = socket.create_connection(("127.0.0.1", own.port), PATIENCE)
    path = f"/api/v1/sessions/{session_id}/stream{query}"
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return client


def status(client: socket.socket) -> int:
    return int(client.recv(65536).split(b" ", 2)[1])


def ports(clients: list[socket.socket]) -> set[int]:
    """Return the clients' ends of their connections."""
    return {client.getsockname()[1] for client in clients}


def connected(web: psutil.Process, ports: set[int]) -> bool:
    """Tell whether the web process still has a connection from one of these ports."""
    return any(c.raddr and c.raddr.port in ports for c in web.net_connections("tcp"))


def gone(web: psutil.Process, ports: set[int]) -> None:
    """Wait until the web process has closed the connections from these ports."""
    until(lambda: not connected(web, ports), "the server to close the connections")


def come_and_go(own: Daemon, web: psutil.Process, session_id: str) -> None:
    """Have a thousand clients come and go, in groups that leave only a few places free."""
    for _ in range(1000 // STREAMS):
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(own, session_id)) for _ in range(STREAMS)]
            assert {status(client) for client in clients} == {200}
            left = ports(clients)
        gone(web, left)


def is_let_in(own: Daemon, session_id: str) -> bool:
    with connect(own, session_id) as client:
        return status(client) == 200


def test_a_thousand_clients_that_have_gone_leave_nothing_behind(
    own: Daemon, web: psutil.Process
) -> None:
    session_id = own.session()
    # The first thousand show how much the process ever needs; one idle stream needs some 25 kB.
    come_and_go(own, web, session_id)
    descriptors, memory = web.num_fds(), web.memory_info().rss
    come_and_go(own, web, session_id)
    come_and_go(own, web, session_id)
    assert web.num_fds() <= descriptors
    assert web.memory_info().rss - memory < 4 * MEGABYTE


def test_a_client_too_many_is_told_when_to_come_back(own: Daemon) -> None:
    session_id = own.session()
    with ExitStack() as stack:
        for _ in range(LIMIT):
            assert status(stack.enter_context(connect(own, session_id))) == 200
        answer = own.api.get(f"/sessions/{session_id}/stream")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many")
    assert int(answer.headers["Retry-After"]) > 0
    until(lambda: is_let_in(own, session_id), "a place")


def grow(own: Daemon, session_id: str, megabytes: int, each: Callable[[], None]) -> int:
    """Journal so many megabytes, `each` of them by itself; return the seq of the last event."""
    parameters = {"id": session_id, "count": MEGABYTE // PIECE, "text": "x" * PIECE}
    last = 0
    with psycopg.connect(embedded_url(own.home), autocommit=True) as connection:
        for _ in range(megabytes):
            [(last,)] = connection.execute(GROW, parameters).fetchall()
            connection.execute(BELL, [f"{session_id}:{last}"])
            each()
    return last


def is_cut(client: socket.socket) -> bool:
    """Read to the end of what came; tell whether the server cut it."""
    try:
        while client.recv(MEGABYTE):
            pass
    except ConnectionResetError:
        return True
    return False


@pytest.mark.long
@pytest.mark.alone
def test_clients_that_never_read_400_megabytes_cost_no_memory_and_are_cut(
    own: Daemon, web: psutil.Process
) -> None:
    session_id = own.session()
    peak, before = 0, web.memory_info().rss

    def look() -> None:
        nonlocal peak
        peak = max(peak, web.memory_info().rss)

    with ExitStack() as stack:
        # One is there from the start, one comes when all of it is there already.
        clients = [stack.enter_context(connect(own, session_id))]
        assert status(clients[0]) == 200
        last = grow(own, session_id, 400, look)
        clients.append(stack.enter_context(connect(own, session_id, "?after=0")))
        assert status(clients[1]) == 200
        theirs = ports(clients)
        until(lambda: look() or not connected(web, theirs), "the clients to be cut")
        assert all(is_cut(client) for client in clients)
    assert last >= 1600
    assert peak - before < 20 * MEGABYTE
