"""The embedded PostgreSQL under every kind of sudden death, and in awkward places."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from pytest_django import Settings

from amplifierd.common.program import BASE_DIR
from amplifierd.postgres import (
    EmbeddedPostgres,
    PostgresError,
    Revival,
    embedded_url,
    programs,
    running,
    server,
    serving,
)
from tests.harness.cluster import copy_cluster

HOLD = """
import sys
from pathlib import Path
from amplifierd.postgres import running
with running(Path(sys.argv[1])) as postgres:
    print(postgres.url, flush=True)
    sys.stdin.read()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A data folder; a server that a killed user has left is stopped in the end."""
    home = tmp_path / "home"
    yield home
    if (home / "pgdata" / "postmaster.pid").exists():
        with running(home):
            pass


@pytest.fixture
def made(home: Path) -> Path:
    """A data folder that has its cluster already, for tests that are not about making one."""
    copy_cluster(home, durable=True)
    return home


@pytest.fixture
def postgres(home: Path) -> Iterator[EmbeddedPostgres]:
    with running(home, durable=False) as server:
        yield server


class User(subprocess.Popen[str]):
    """A process that holds a share of the server of `home`."""

    def __init__(self, home: Path) -> None:
        command = [sys.executable, "-c", HOLD, str(home)]
        pipe = subprocess.PIPE
        super().__init__(command, cwd=BASE_DIR, stdin=pipe, stdout=pipe, text=True)

    def url(self) -> str:
        assert self.stdout
        return self.stdout.readline().strip()

    def leave(self) -> None:
        self.communicate()


@contextmanager
def users(home: Path, count: int = 1) -> Iterator[list[User]]:
    started = [User(home) for _ in range(count)]
    try:
        yield started
    finally:
        for user in started:
            user.kill()
            user.communicate()


def postmaster(home: Path) -> int:
    return int((home / "pgdata" / "postmaster.pid").read_text().split()[0])


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_fresh_folder_gets_a_database_without_tcp_and_with_checksums(
    postgres: EmbeddedPostgres,
) -> None:
    assert ask(postgres.url, "SELECT current_database(), lower('Ä')") == [("amplifierd", "ä")]
    assert ask(postgres.url, "SHOW listen_addresses") == [("",)]
    assert ask(postgres.url, "SHOW data_checksums") == [("on",)]
    assert ask(postgres.url, "SHOW server_encoding") == [("UTF8",)]


def test_only_the_account_of_the_server_can_enter_its_folders(
    home: Path, postgres: EmbeddedPostgres
) -> None:
    for folder in (home / "pgdata", home / "run"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == (home / "pgdata" / "PG_VERSION").stat().st_uid


def test_the_url_is_known_before_anything_is_there(home: Path) -> None:
    url = embedded_url(home)
    assert not home.exists()
    with running(home, durable=False) as postgres:
        assert postgres.url == url


def test_the_port_of_the_environment_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, made: Path
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    with running(made, durable=False) as postgres:
        assert ask(postgres.url, "SELECT 1") == [(1,)]


def test_no_secret_of_the_environment_is_handed_to_the_server(
    monkeypatch: pytest.MonkeyPatch, made: Path
) -> None:
    monkeypatch.setenv("API_KEY", "sk-canary-0123456789")
    with running(made, durable=False):
        environment = psutil.Process(postmaster(made)).environ()
    assert environment["PATH"] == os.environ["PATH"]
    assert "API_KEY" not in environment


def test_six_starts_at_once_share_one_server(home: Path) -> None:
    with users(home, 6) as six:
        assert {user.url() for user in six} == {embedded_url(home)}
        log = (home / "postgres.log").read_text()
        assert log.count("database system is ready to accept connections") == 1


def test_the_last_user_stops_the_server_and_no_other(made: Path) -> None:
    with users(made, 2) as (first, second):
        first.url(), second.url()
        first.leave()
        assert ask(embedded_url(made), "SELECT 1") == [(1,)]
        second.leave()
    with pytest.raises(psycopg.OperationalError):
        ask(embedded_url(made), "SELECT 1")


def test_a_killed_user_does_not_count(made: Path) -> None:
    with users(made, 2) as (killed, last):
        killed.url(), last.url()
        killed.kill()
        killed.wait()
        last.leave()
    assert not (made / "pgdata" / "postmaster.pid").exists()


@pytest.mark.parametrize("victims", ["postmaster", "user", "both"])
def test_committed_rows_survive_kill_9(made: Path, victims: str) -> None:
    with users(made) as (user,):
        url = user.url()
        ask(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        if victims != "user":
            os.kill(postmaster(made), signal.SIGKILL)
        if victims != "postmaster":
            user.kill()
            user.wait()
        with running(made):
            assert ask(url, "SELECT count(*), sum(n) FROM kept") == [(1000, 500500)]


def test_a_cluster_whose_making_was_killed_is_made_anew(home: Path) -> None:
    with users(home) as (user,):
        eventually((home / "pgdata.new" / "PG_VERSION").exists)
        user.kill()
        user.wait()
    assert not (home / "pgdata").exists()
    with running(home, durable=False) as postgres:
        assert ask(postgres.url, "SELECT 1") == [(1,)]


def test_a_database_that_is_missing_is_made(made: Path) -> None:
    with running(made, durable=False) as postgres:
        ask(postgres.url.replace("/amplifierd?", "/postgres?"), "DROP DATABASE amplifierd")
    with running(made, durable=False) as postgres:
        assert ask(postgres.url, "SELECT 1") == [(1,)]


def test_a_pid_file_that_names_another_program_is_not_believed(made: Path) -> None:
    with running(made, durable=False):
        left = (made / "pgdata" / "postmaster.pid").read_text().splitlines()
    stale = "\n".join([str(os.getpid()), *left[1:]]) + "\n"
    (made / "pgdata" / "postmaster.pid").write_text(stale)
    (made / "run").mkdir(exist_ok=True)
    (made / "run" / ".s.PGSQL.5432.lock").write_text(stale)
    with running(made, durable=False) as postgres:
        assert ask(postgres.url, "SELECT 1") == [(1,)]


def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 25)
    with running(home, durable=False) as postgres:
        assert ask(postgres.url, "SELECT 1") == [(1,)]
        assert len(postgres.url) < len(str(home))


def test_a_folder_that_nobody_else_may_enter_is_no_obstacle(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "home").mkdir(mode=0o700)
    with running(closed / "home", durable=False) as postgres:
        assert ask(postgres.url, "SELECT 1") == [(1,)]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.fixture
def unreachable(tmp_path: Path) -> Path:
    """An installed PostgreSQL, below a folder that is root's alone."""
    found = programs.find_programs(None).parent
    package = tmp_path / "closed" / found.parent.name
    package.mkdir(parents=True)
    (package / found.name).symlink_to(found)
    libraries = f"{found.parent.name}.libs"
    (package.parent / libraries).symlink_to(found.parent.with_name(libraries))
    package.parent.chmod(0o700)
    return package / found.name / "bin"


@as_root
def test_programs_that_the_account_cannot_reach_are_copied(
    monkeypatch: pytest.MonkeyPatch, unreachable: Path, home: Path
) -> None:
    monkeypatch.setenv("AMPLIFIERD_PG_BIN", str(unreachable))
    with tempfile.TemporaryDirectory() as cache:
        monkeypatch.setattr(programs, "CACHE", Path(cache))
        with running(home, durable=False) as postgres:
            assert ask(postgres.url, "SELECT 1") == [(1,)]
        assert list(Path(cache).glob("postgresql-*/*/*/bin/postgres"))


def test_data_of_an_older_version_get_the_programs_that_made_them(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    older = [f for f in programs.candidates() if (programs.major_version(f) or 18) < 18]
    if not older:
        pytest.skip("there is one version of PostgreSQL only")
    monkeypatch.setenv("AMPLIFIERD_PG_BIN", str(older[0]))
    with running(home, durable=False) as postgres:
        version = postgres.version
    monkeypatch.delenv("AMPLIFIERD_PG_BIN")
    with running(home, durable=False) as postgres:
        [(shown,)] = ask(postgres.url, "SHOW server_version")
    assert str(shown).split(".")[0] == version != "18"


def test_missing_programs_are_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    monkeypatch.setenv("AMPLIFIERD_PG_BIN", str(tmp_path))
    with pytest.raises(PostgresError, match="DATABASE_URL"), running(home):
        pass


def test_a_server_that_cannot_start_shows_the_end_of_its_log(made: Path) -> None:
    with running(made, durable=False):
        pass
    with (made / "pgdata" / "postgresql.conf").open("a") as configuration:
        configuration.write("shared_buffers = 'plenty'\n")
    with pytest.raises(PostgresError, match="plenty"), running(made, durable=False):
        pass


def test_a_socket_folder_of_a_stranger_is_refused(tmp_path: Path, home: Path) -> None:
    home.mkdir()
    (home / "run").symlink_to(tmp_path)
    with pytest.raises(PostgresError, match="another user"), running(home):
        pass


def test_a_server_that_dies_in_use_is_revived(made: Path) -> None:
    with running(made, durable=False) as postgres:
        said: list[str] = []
        keep_alive = Revival(postgres, said.append)
        keep_alive()
        assert said == []
        os.kill(postmaster(made), signal.SIGKILL)

        def revived() -> bool:
            keep_alive()
            return bool(said) and postgres.answers()

        eventually(revived)
        assert said == ["PostgreSQL has died; it starts again"]
        postgres.start()
        assert ask(postgres.url, "SELECT 1") == [(1,)]


def test_the_log_of_a_server_that_runs_is_limited(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LOG_LIMIT", 1000)
    log = made / "postgres.log"
    with running(made, durable=False) as postgres:
        keep_alive = Revival(postgres, print)
        with contextlib.suppress(psycopg.Error):
            ask(postgres.url, f"SELECT '{'x' * 2000}'::int")
        eventually(lambda: log.stat().st_size > 1000)
        keep_alive()
        assert log.stat().st_size == 0
        assert "xxx" in log.with_suffix(".log.1").read_text()
        with contextlib.suppress(psycopg.Error):
            ask(postgres.url, "SELECT 'next'::int")
        eventually(lambda: "next" in log.read_text())
        assert log.read_bytes()[:1] != b"\0"


def test_commands_that_ask_the_database_find_it_running(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    settings.HOME = home
    monkeypatch.delenv("DATABASE_URL")
    with serving(["manage.py", "check"]):
        assert not home.exists()
    with serving(["manage.py", "migrate", "--help"]):
        assert not home.exists()
    with serving(["manage.py", "migrate"]):
        assert ask(embedded_url(home), "SELECT 1") == [(1,)]
    assert not (home / "pgdata" / "postmaster.pid").exists()


def test_commands_leave_alone_a_database_that_they_are_told_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    settings.HOME = home
    monkeypatch.setenv("DATABASE_URL", embedded_url(home))
    with serving(["manage.py", "migrate"]):
        assert not home.exists()
