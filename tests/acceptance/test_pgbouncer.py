"""The main job through a real pgbouncer, which gives each transaction to another session."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections

from amplifierd.common.errors import describe
from amplifierd.postgres import schema
from amplifierd.postgres.data_folder import Layout
from amplifierd.postgres.programs import account_for
from tests.acceptance.trouble import checked
from tests.harness.cluster import copy_cluster
from tests.harness.daemon import Daemon, daemon, free_port
from tests.harness.sse import Watcher
from tests.harness.standby import HOST, NAME, Server, url_of
from tests.harness.waiting import until

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed"),
]
# Fewer sessions than the daemon has connections: they really are shared.
SESSIONS = 3
LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout")


@contextlib.contextmanager
def pgbouncer(folder: Path, server: Server) -> Iterator[int]:
    """A pgbouncer in transaction mode while the block runs; it gives its port."""
    assert PROGRAM
    account = account_for(Layout(server.home))
    account.own(folder)
    port = free_port()
    settings = {
        "listen_addr": HOST,
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "auth_file": "users",
        "pool_mode": "transaction",
        "default_pool_size": SESSIONS,
        "max_client_conn": 200,
    }
    lines = ["[databases]", f"{NAME} = host={HOST} port={server.port}", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in settings.items()]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    (folder / "users").write_text(f'"{NAME}" ""\n')
    for file in folder.iterdir():
        file.chmod(0o644)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "pgbouncer.ini"], **account.options(folder), stdout=log, stderr=log
        )

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url_of(port)):
            return True
        return False

    try:
        until(answers, "pgbouncer")
        yield port
    finally:
        process.kill()
        process.wait()


@dataclass
class Site:
    """A daemon behind pgbouncer."""

    server: Server
    own: Daemon
    folder: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pgbouncer")
    copy_cluster(folder / "server")
    server = Server(folder / "server")
    server.start()
    try:
        with (
            pgbouncer(folder / "pooler", server) as port,
            daemon(
                folder / "home", DATABASE_URL=url_of(port), AMPLIFIERD_LISTEN_URL=server.url
            ) as own,
        ):
            yield Site(server, own, folder)
    finally:
        server.stop()


def find_weaknesses(site: Site) -> list[tuple[str, str]]:
    """Return what is not in force on connections of the daemon, as `doctor` tells it."""
    with psycopg.connect(site.own.environment["DATABASE_URL"], autocommit=True) as client:
        return list(schema.find_weaknesses(client))


def test_the_main_job_works(site: Site) -> None:
    own = site.own
    session_ids = [own.session() for _ in range(8)]
    watchers = [Watcher(own.url, session_id, 0) for session_id in session_ids]
    for session_id in session_ids:
        own.send(session_id, "BENCH tokens=40 delay_ms=10")
    for session_id in session_ids:
        until(lambda known=session_id: len(own.transcript(known)) == 2, "an answer")
        own.ask("POST", f"/sessions/{session_id}/complete")
    for session_id, watcher in zip(session_ids, watchers, strict=True):
        until(lambda known=watcher: known.ended, "the stream to end")
        assert watcher.finding is None
        journal = [(event["id"], event["event"]) for event in own.events(session_id)]
        assert [(frame.id, frame.event) for frame in watcher.seen] == journal
    for session_id in session_ids:
        own.ask("DELETE", f"/sessions/{session_id}")
    assert checked(site.server.url) == []


def test_a_message_reaches_its_worker_by_a_notification(site: Site) -> None:
    """Else it waits for the worker's next look, up to two seconds, and the client for the hub's."""
    session_id = site.own.session()
    watcher = Watcher(site.own.url, session_id, 0)
    until(lambda: watcher.connections, "the stream")
    quick = 0
    for _ in range(5):
        ended = len(completed(watcher))
        site.own.send(session_id, "hello")
        with contextlib.suppress(AssertionError):
            until(lambda known=ended: len(completed(watcher)) > known, "an answer", 1)
            quick += 1
        until(lambda known=ended: len(completed(watcher)) > known, "an answer")
    assert quick >= 4


def completed(watcher: Watcher) -> list[Any]:
    return [frame for frame in watcher.seen if frame.event == "assistant_message_complete"]


def test_no_session_of_the_server_keeps_anything_of_a_client(site: Site) -> None:
    url = site.own.environment["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as client:
        for _ in range(4 * SESSIONS):
            kept = client.execute(
                "SELECT (SELECT count(*) FROM pg_prepared_statements),"
                " (SELECT count(*) FROM pg_cursors WHERE is_holdable),"
                " current_setting('plan_cache_mode'), current_setting('enable_bitmapscan'),"
                " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                "  AND pid = pg_backend_pid())"
            ).fetchone()
            assert kept == (0, 0, "auto", "on", 0)


def test_limits_that_are_not_in_force_are_told_until_the_role_has_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = site.own.log.read_text()
    for limit in LIMITS:
        assert f"{limit} is not in force" in log
    monkeypatch.setitem(connections.settings["default"], "DIRECT", {"HOST": HOST})
    found = find_weaknesses(site)
    for limit, (says, todo) in zip(LIMITS, found, strict=True):
        assert says.startswith(f"{limit} is not in force")
        assert f"ALTER ROLE {NAME} SET {limit} = " in todo
        site.server.query(todo.partition(": ")[2])
    # As long as the sessions that there are live, they have none.
    site.server.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    until(site.own.ready, "the daemon to be ready")
    assert find_weaknesses(site) == []


def test_a_pooler_without_a_direct_address_is_told(site: Site) -> None:
    with (
        pgbouncer(site.folder / "other", site.server) as port,
        psycopg.connect(url_of(port), autocommit=True) as client,
    ):
        [(says, todo)] = schema.find_weaknesses(client)
        assert "proxy that pools connections" in says
        assert "AMPLIFIERD_LISTEN_URL" in todo
        # Nor does it take what connections send without that address.
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(url_of(port), options="-c work_mem=4MB")
    assert "AMPLIFIERD_LISTEN_URL" in describe(caught.value)
    with psycopg.connect(site.server.url, autocommit=True) as client:
        assert list(schema.find_weaknesses(client)) == []
