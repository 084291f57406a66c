"""`backup` and `restore`: all that was acknowledged comes back, or nothing is changed."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from amplifierd.auth import keys
from amplifierd.common.callers import Everyone
from amplifierd.common.statements import close_connections
from amplifierd.models import ApiKey
from sessions_app.models import Event, Message, Run, Session
from sessions_app.services import attempts, epoch, idempotency, messages, runs, sessions
from sessions_app.streaming import notifier
from tests.conftest import say, session_in
from tests.harness.daemon import ROOT, Daemon
from tests.harness.databases import empty_database, switched_to
from tests.harness.waiting import until
from tests.integration.test_invariants import findings, world

pytestmark = pytest.mark.django_db(transaction=True)

LEFT_OUT = {"django_migrations", "django_session", "sessions_app_process"}
ODD = "ü 🦊 \t tab \\ backslash \\N \u2028 'quotes' \"double\" \x01 line\nline\r\n\\."
TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


def back_up(path: Path) -> Path:
    call_command("backup", str(path), stderr=StringIO())
    return path


def disconnect() -> None:
    """Leave the database to a restore, which wants nobody else to be connected."""
    notifier.close()
    close_connections()


def restore(path: Path, *options: str) -> None:
    call_command("restore", str(path), *options, stderr=StringIO())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.tar.gz"


@pytest.fixture
def target() -> Iterator[str]:
    with empty_database() as url:
        yield url


def read_everything() -> dict[str, list[str]]:
    """Return the rows of each table, as text."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        names = {name for (name,) in cursor.fetchall()} - LEFT_OUT
        found = {}
        for name in names:
            cursor.execute(f'SELECT t::text FROM "{name}" t ORDER BY 1')
            found[name] = [row for (row,) in cursor.fetchall()]
    return found


def list_functions() -> list[tuple[str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
        )
        return list(cursor.fetchall())


def fill() -> dict[str, str]:
    """Make rows of every kind, with content that is hard to write as text."""
    made = world()
    odd = sessions.create(
        name="odd \\N", metadata={"key": ODD, "deep": [1.5, None, {"a": ODD}]}, sees=Everyone()
    )
    sessions.start(odd.id)
    messages.add(odd.id, ODD, role="user", metadata={"text": ODD})
    messages.add(odd.id, "x" * 3_000_000, role="user")
    idempotency.keep("key", bytes(range(32)), 201, "application/json", bytes(range(256)) * 4000)
    User.objects.create_superuser("ann", password="secret")
    keys.create(name="notebook", owner="ann", scope="read")
    return {**made, "odd": odd.id}


def test_everything_comes_back_as_it_was(
    catalogue: None, file: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = fill()
    before, epoch_before = read_everything(), epoch.read_epoch()
    back_up(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    with switched_to(target):
        restore(file)
        after = read_everything()
        # The runs that a worker had are free for the next one.
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"sessions_app_run", "sessions_app_installation"}
        assert epoch.read_epoch() != epoch_before
        assert findings() == []
        # What is added is numbered after what was there, and the triggers hold.
        keys.create(name="another", owner="ben", scope="read")
        assert ApiKey.objects.count() == 2
        sessions.complete(sessions_started().id)
        with pytest.raises(Exception, match="append-only"):
            Event.objects.update(type="x")
        assert attempts.rescue() == Run.objects.filter(interruptions__gt=0).count() > 0
        attempt = attempts.claim(ids["busy"], "worker-9")
        assert attempt
        attempts.succeed(attempt, "", {})
        assert findings() == []


def sessions_started() -> Session:
    session = sessions.create(sees=Everyone())
    sessions.start(session.id)
    return session


def test_what_was_acknowledged_before_is_there_while_others_write(
    catalogue: None, file: Path, target: str
) -> None:
    stop = threading.Event()
    acknowledged: list[list[str]] = [[], [], []]
    writers = [threading.Thread(target=write, args=(mine, stop)) for mine in acknowledged]
    for writer in writers:
        writer.start()
    try:
        until(lambda: min(map(len, acknowledged)) >= 20, "each to have written")
        known = [id for mine in acknowledged for id in list(mine)]
        back_up(file)
        after = sum(map(len, acknowledged))
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert after > len(known), "nobody wrote meanwhile"
    with switched_to(target):
        restore(file)
        assert set(known) <= set(Message.objects.values_list("id", flat=True))
        assert findings() == []


def write(acknowledged: list[str], stop: threading.Event) -> None:
    """Send messages and journal their answers until it is told to stop."""
    try:
        session = sessions_started()
        while not stop.is_set():
            acknowledged.append(runs.send(session.id, "hello")[0].message_id)
            attempt = attempts.claim(session.id, "worker")
            assert attempt
            say(attempt, "one ", "two")
            attempts.succeed(attempt, "one two", {})
    finally:
        connections.close_all()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_end(content: bytes) -> bytes:
    return content[:-5]


def flip(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :]


def rewrite(change: Callable[[str, bytes], bytes | None]) -> Callable[[bytes], bytes]:
    """Change the files in the backup, so that only its own checks can notice."""

    def apply(content: bytes) -> bytes:
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as old,
            tarfile.open(fileobj=out, mode="w:gz") as new,
        ):
            for member in old:
                stream = old.extractfile(member)
                assert stream
                if (changed := change(member.name, stream.read())) is not None:
                    member.size = len(changed)
                    new.addfile(member, io.BytesIO(changed))
        return out.getvalue()

    return apply


def change_manifest(**changes: Any) -> Callable[[bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        return json.dumps(json.loads(content) | changes).encode() if "manifest" in name else content

    return rewrite(change)


DAMAGES = {
    "cut": (cut, "cannot be read to its end"),
    "its end cut": (cut_end, "cannot be read to its end"),
    "a bit flipped": (flip, "cannot be restored"),
    "empty": (lambda content: b"", "cannot be restored"),
    "something else": (lambda content: gzip.compress(b"hello"), "cannot be restored"),
    "a row changed": (
        rewrite(lambda name, content: content.replace(b"hello", b"hallo")),
        "the rows of sessions_app_message are not those",
    ),
    "without its end": (
        rewrite(lambda name, content: None if name == "end.json" else content),
        "it ends too early",
    ),
    "a part missing": (
        rewrite(lambda name, content: None if "sessions_app_event/" in name else content),
        "the rows of sessions_app_event",
    ),
    "newer format": (change_manifest(format=2), "it has the format 2"),
    "newer migrations": (
        change_manifest(migrations={"sessions_app": ["9999_later"]}),
        "made by a newer version",
    ),
}


@pytest.fixture
def backup(catalogue: None, file: Path) -> bytes:
    messages.add(session_in("active").id, "hello", role="user")
    return back_up(file).read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_changes_nothing(backup: bytes, damage: str, file: Path) -> None:
    before = read_everything()
    change, reason = DAMAGES[damage]
    file.write_bytes(change(backup))
    with pytest.raises(CommandError, match=reason):
        restore(file, "--replace", "--yes")
    assert read_everything() == before


def test_a_database_in_use_is_replaced_only_if_told(backup: bytes, file: Path) -> None:
    kept, functions = Session.objects.get(), list_functions()
    later = session_in("active")
    before = read_everything()
    disconnect()
    with pytest.raises(CommandError, match=r"has 2 sessions.*--replace"):
        restore(file)
    with pytest.raises(CommandError, match="--yes"):
        restore(file, "--replace")
    assert read_everything() == before
    disconnect()
    restore(file, "--replace", "--yes")
    assert list(Session.objects.all()) == [kept]
    assert not Session.objects.filter(pk=later.id).exists()
    assert findings() == []
    # Nothing of the old tables, or of the making of the new ones, is left.
    with connection.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'amplifierd%'")
        assert cursor.fetchall() == []
    assert list_functions() == functions


def test_nothing_is_replaced_under_a_daemon(backup: bytes, file: Path, target: str) -> None:
    with (
        switched_to(target),
        psycopg.connect(target, application_name="amplifierd queue"),
        pytest.raises(CommandError, match=r"amplifierd queue \(process .*Stop `manage.py serve`"),
    ):
        restore(file)


def test_a_restore_that_fails_leaves_the_database_as_it_was(
    backup: bytes, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages.add(Session.objects.get().id, "later", role="user")
    before = read_everything()

    def fail() -> None:
        raise OSError("disk full")

    monkeypatch.setattr(attempts, "expire_leases", fail)
    disconnect()
    with pytest.raises(OSError, match="disk full"):
        restore(file, "--replace", "--yes")
    assert read_everything() == before
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace('amplifierd_restore')")
        assert cursor.fetchone() == (None,)


@pytest.mark.long
def test_a_backup_of_an_older_version_is_migrated(file: Path, target: str) -> None:
    with switched_to(target):
        executor = MigrationExecutor(connection)
        executor.migrate(
            [
                ("sessions_app", "0011_batch_ids"),
                ("amplifierd", "0001_apikeys"),
                *(node for node in executor.loader.graph.leaf_nodes() if node[0] in OTHER_APPS),
            ]
        )
        with connection.cursor() as cursor:
            cursor.execute(OLD_SESSION)
        back_up(file)
    with empty_database() as other, switched_to(other):
        restore(file)
        assert Session.objects.get().id == "session_old"
        assert is_migrated_now()
        assert findings() == []


OTHER_APPS = ("profiles_app", "auth", "axes", "sessions", "contenttypes")
OLD_SESSION = """
INSERT INTO sessions_app_session (id, status, owner, profile_name, amplified_dir,
    settings_overrides, mount_plan, metadata, created_at, updated_at, message_count, last_event_seq,
    agent_invocations, token_usage, usage, summary, summarised_seq)
VALUES ('session_old', 'created', '', 'foundation/test', '.', '{}', '{}', '{}', now(), now(),
    0, 0, 0, 0, '{}', '', 0)
"""


def is_migrated_now() -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


@pytest.mark.long
def test_the_embedded_database_is_backed_up_while_the_daemon_runs(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "home")
    try:
        daemon.start()
        session_id = daemon.session()
        daemon.send(session_id, "hello")
        written = manage(daemon, "backup", "-")
        refused = manage(daemon, "restore", "-", "--replace", "--yes", content=written, code=1)
        assert b"Others are connected" in refused and b"serve" in refused
        daemon.ask("DELETE", f"/sessions/{session_id}")
        daemon.stop()
        manage(daemon, "restore", "-", "--replace", "--yes", content=written)
        daemon.start()
        assert daemon.transcript(session_id)[0]["content"] == "hello"
    finally:
        daemon.discard()


def manage(daemon: Daemon, *arguments: str, content: bytes = b"", code: int = 0) -> bytes:
    """Run a command on the daemon's data folder; return its output, or its errors."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=daemon.environment,
        input=content,
        capture_output=True,
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stderr if code else done.stdout
