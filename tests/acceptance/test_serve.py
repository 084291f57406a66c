"""`manage.py serve` as a user meets it: it answers, heals, ends in order and starts again."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from amplifierd.common.program import BASE_DIR
from tests.harness import plain
from tests.harness.daemon import Serve, is_alive, serving
from tests.harness.waiting import until

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A daemon that makes its database itself, in a data folder without one."""
    home = tmp_path_factory.mktemp("shared") / "home"
    home.mkdir()
    with serving(home) as daemon:
        yield daemon


def create_session(daemon: Serve) -> str:
    answer = plain.post(f"{daemon.address()}/sessions/", json={}, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sessionId"])


def has_session(daemon: Serve, session_id: str) -> bool:
    return plain.get(f"{daemon.address()}/sessions/{session_id}", timeout=30).status_code == 200


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(is_alive(pid) for pid in pids), "the end of the killed")


def hidden(pid: int) -> bool:
    try:
        psutil.Process(pid).environ()
    except psutil.AccessDenied:
        return True
    return False


def test_it_says_what_runs_and_where_to_look(daemon: Serve) -> None:
    said = daemon.said()
    assert f"API        http://127.0.0.1:{daemon.port}/api/v1/" in said
    assert "/admin/" in said
    assert f"Data       {daemon.home}" in said
    assert "embedded PostgreSQL 18" in said
    assert "1 web, 1 worker" in said
    assert f"Sign in    http://127.0.0.1:{daemon.port}/admin/sign-in/" in said
    assert "manage.py console_link" in said


def test_the_root_directory_is_there(daemon: Serve) -> None:
    assert (daemon.home / "root").is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hides a process from its user")
@pytest.mark.skipif(os.geteuid() == 0, reason="root sees everything")
def test_no_process_shows_its_environment_to_its_own_user(daemon: Serve) -> None:
    pids = [daemon.process.pid, *daemon.pids()]
    assert len(pids) == 3
    for pid in pids:
        until(lambda pid=pid: hidden(pid), f"{pid} to hide")


def test_a_second_daemon_on_the_same_folder_names_the_first_and_exits_1(daemon: Serve) -> None:
    by_another_name = daemon.home.with_name("other")
    by_another_name.symlink_to(daemon.home)
    second = Serve(by_another_name)
    assert second.process.wait(60) == 1
    assert f"http://127.0.0.1:{daemon.port}, pid {daemon.process.pid}" in second.said()
    assert daemon.answers()


def test_a_port_that_is_taken_is_named_and_it_exits_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        second = Serve(tmp_path / "home", port=port)
        assert second.process.wait(60) == 1
    assert f"port {port}" in second.said()
    assert "AMPLIFIERD_PORT" in second.said()


@pytest.mark.parametrize("command", ["run_web", "run_worker"])
def test_a_killed_process_is_replaced(daemon: Serve, command: str) -> None:
    victims = daemon.pids(command)
    assert len(victims) == 1, daemon.said()
    kill(*victims)
    until(lambda: bool(daemon.pids(command)), "a new process")
    until(daemon.answers, "an answer")
    assert "was killed by SIGKILL; starting it again" in daemon.said()


def test_a_killed_postgresql_comes_back_with_its_rows(daemon: Serve) -> None:
    session_id = create_session(daemon)
    kill(daemon.postmaster().pid)
    until(lambda: "PostgreSQL has died; it starts again" in daemon.said(), "a revival")
    until(daemon.answers, "an answer")
    # Connections that were in use meanwhile are found out one after the other, each by a 503.
    until(lambda: has_session(daemon, session_id), "its rows")


@pytest.mark.long
def test_a_killed_daemon_takes_its_processes_along_and_starts_again(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as first:
        port, session_id, orphans = first.port, create_session(first), first.pids()
        first.process.kill()
        first.process.wait()
    with serving(tmp_path / "home", port=port) as second:
        assert has_session(second, session_id)
        until(lambda: not any(is_alive(pid) for pid in orphans), "the end of the orphans")


@pytest.mark.long
def test_after_kill_9_of_everything_all_is_there(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as first:
        session_id = create_session(first)
        kill(first.postmaster().pid, *first.pids(), first.process.pid)
    with serving(tmp_path / "home") as second:
        assert has_session(second, session_id)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "home") as daemon:
        processes = [daemon.postmaster().pid, *daemon.pids()]
        assert daemon.stop(number) == 0
    assert not any(is_alive(pid) for pid in processes)
    assert daemon.said().endswith("Stopped.\n")
    assert (tmp_path / "home" / "serve.lock").read_text() == ""


def test_a_daemon_stopped_while_it_starts_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    daemon = Serve(tmp_path / "home")
    pid_file = tmp_path / "home" / "pgdata" / "postmaster.pid"
    until(pid_file.exists, "a server")
    assert daemon.stop(signal.SIGTERM) in {0, 128 + signal.SIGTERM}
    assert not pid_file.exists()


def test_commands_find_the_database_of_the_daemon(daemon: Serve) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "showmigrations", "--plan"],
        cwd=BASE_DIR,
        env=os.environ | {"AMPLIFIERD_HOME": str(daemon.home), "DATABASE_URL": ""},
        capture_output=True,
        text=True,
    )
    assert "[X]  sessions_app.0001_sessions" in done.stdout
    until(daemon.answers, "an answer")
