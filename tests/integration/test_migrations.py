"""Migrations beside requests: locks are waited for shortly, and what is interrupted continues."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.core.management.base import CommandError
from django.db import connection, connections, migrations, models
from django.db.migrations.recorder import MigrationRecorder
from psycopg.conninfo import conninfo_to_dict

from amplifierd.common.migrations import (
    LOCK_TIMEOUT,
    AddIndexConcurrently,
    PatientExecutor,
    RebuildTable,
    RunInBatches,
)
from amplifierd.postgres import schema
from tests.harness.databases import conninfo, empty_database

pytestmark = pytest.mark.django_db(transaction=True)


class Database:
    """An empty database of a test's own, with one table."""

    def __init__(self, url: str, wrapper: Any) -> None:
        self.url, self.wrapper = url, wrapper
        self.executor = PatientExecutor(wrapper)
        self.said: list[str] = []
        self.executor.announce = self.said.append

    def execute(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as own:
            cursor = own.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def migrate(self, *operations: Any, atomic: bool = False) -> None:
        """Apply a migration of these operations to the model `Thing`."""
        migration = migrations.Migration("probe", "sessions_app")
        vars(migration).update(operations=list(operations), atomic=atomic)
        self.executor.apply_migration(self.state(), migration)

    def state(self) -> Any:
        state = self.executor.loader.project_state([])
        made = migrations.CreateModel(
            "Thing",
            [
                ("id", models.CharField(primary_key=True, max_length=64)),
                ("text", models.TextField()),
            ],
            {"db_table": "thing"},
        )
        made.state_forwards("sessions_app", state)
        return state


@pytest.fixture
def database() -> Iterator[Database]:
    with empty_database() as url:
        wrapper = connections["default"].copy("probed")
        wrapper.settings_dict["NAME"] = conninfo_to_dict(url)["dbname"]
        wrapper.settings_dict["OPTIONS"].pop("pool", None)
        connections["probed"] = wrapper
        MigrationRecorder(wrapper).ensure_schema()
        found = Database(url, wrapper)
        found.execute(
            "CREATE TABLE thing (id varchar(64) PRIMARY KEY, text text NOT NULL);"
            " INSERT INTO thing SELECT lpad(n::text, 6, '0'), 'Text ' || n"
            " FROM generate_series(1, 2000) AS n"
        )
        try:
            yield found
        finally:
            wrapper.close()
            del connections["probed"]


ADD_COLUMN = migrations.AddField("thing", "extra", models.TextField(null=True))
INDEX = models.Index(fields=["text"], name="thing_text")


@contextlib.contextmanager
def in_background(action: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.parametrize("atomic", [True, False])
def test_requests_do_not_queue_behind_a_migration_that_waits(
    database: Database, atomic: bool
) -> None:
    worst = 0.0

    def ask() -> None:
        nonlocal worst
        with psycopg.connect(database.url) as slow:
            slow.execute("SELECT FROM thing LIMIT 1")
            is_locked.set()
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                started = time.monotonic()
                database.execute("SELECT count(*) FROM thing")
                worst = max(worst, time.monotonic() - started)

    is_locked = threading.Event()
    with in_background(ask):
        is_locked.wait()
        database.migrate(ADD_COLUMN, atomic=atomic)
    assert 0.1 < worst < LOCK_TIMEOUT + 0.5
    assert "waits for other transactions" in database.said[0]
    assert database.execute("SELECT extra FROM thing LIMIT 1") == [(None,)]


def test_an_index_of_an_interrupted_build_is_built_anew(database: Database) -> None:
    database.execute("UPDATE thing SET text = 'same' WHERE id < '000003'")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY thing_text ON thing (text)")
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'thing_text'::regclass"
    assert database.execute(valid) == [(False,)]
    database.migrate(AddIndexConcurrently("thing", INDEX))
    assert database.execute(valid) == [(True,)]


def test_a_migration_continues_where_a_process_has_died(database: Database) -> None:
    class Broken(migrations.RunSQL):
        def database_forwards(self, *args: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.migrate(ADD_COLUMN, Broken(""))
    # The column would be there twice, if it were added again.
    database.migrate(ADD_COLUMN, migrations.RunSQL("UPDATE thing SET extra = 'done'"))
    assert database.execute("SELECT DISTINCT extra FROM thing") == [("done",)]
    assert database.execute("SELECT to_regclass('amplifierd_migration_progress')") == [(None,)]
    assert database.execute("SELECT name FROM django_migrations") == [("probe",)]


def test_rows_are_changed_in_batches_that_can_be_repeated(database: Database) -> None:
    statement = """
        UPDATE thing SET text = upper(text) WHERE id IN (
            SELECT id FROM thing WHERE text <> upper(text) LIMIT %(limit)s FOR UPDATE
        )
    """
    database.migrate(RunInBatches(statement))
    assert database.execute("SELECT count(*), count(DISTINCT xmin::text) > 1 FROM thing") == [
        (2000, True)
    ]
    assert database.execute("SELECT count(*) FROM thing WHERE text LIKE 'TEXT %'") == [(2000,)]


LENGTH = "ALTER TABLE {table} ADD COLUMN length int GENERATED ALWAYS AS (length(text)) STORED"
IS_DONE = """
SELECT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = 'thing'::regclass AND attname = 'length'
)
"""
REBUILD = RebuildTable("thing", ["id"], [LENGTH], IS_DONE, [])
FURNISHED = """
CREATE INDEX thing_text ON thing (text);
CREATE TABLE part (thing_id varchar(64) CONSTRAINT part_of REFERENCES thing
    DEFERRABLE INITIALLY DEFERRED);
INSERT INTO part SELECT id FROM thing WHERE id < '000010';
ALTER TABLE thing SET (fillfactor = 70), ADD CONSTRAINT thing_short CHECK (length(text) < 99);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'kept' USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER thing_kept BEFORE DELETE ON thing FOR EACH ROW WHEN (OLD.id < '000010')
    EXECUTE FUNCTION keep();
COMMENT ON TRIGGER thing_kept ON thing IS 'its hash';
COMMENT ON TABLE thing IS 'things';
GRANT SELECT ON thing TO PUBLIC;
"""
# What a table is, but for the new column.
SHAPE = """
SELECT array(SELECT indexdef FROM pg_indexes WHERE tablename = 'thing' ORDER BY indexname),
    array(SELECT conname || pg_get_constraintdef(oid) || convalidated FROM pg_constraint
        WHERE 'thing'::regclass IN (conrelid, confrelid) ORDER BY conname),
    array(SELECT pg_get_triggerdef(oid) || coalesce(obj_description(oid, 'pg_trigger'), '')
        FROM pg_trigger WHERE tgrelid = 'thing'::regclass AND NOT tgisinternal),
    obj_description('thing'::regclass), relacl::text, reloptions
FROM pg_class WHERE oid = 'thing'::regclass
"""


def test_a_table_is_rebuilt_while_it_is_written(database: Database) -> None:
    database.execute(FURNISHED)
    shape = database.execute(SHAPE)
    done = threading.Event()
    worst, written = 0.0, 0

    def write() -> None:
        nonlocal worst, written
        with psycopg.connect(database.url, autocommit=True) as own:
            while not done.is_set():
                started, written = time.monotonic(), written + 1
                own.execute("INSERT INTO thing VALUES (%s, 'new')", [f"1{written:06}"])
                own.execute("DELETE FROM thing WHERE id = %s", [f"{100 + written:06}"])
                own.execute("UPDATE thing SET text = 'x' WHERE id = %s", [f"{1999 - written:06}"])
                worst = max(worst, time.monotonic() - started)

    with in_background(write):
        try:
            database.migrate(REBUILD)
        finally:
            done.set()
    assert database.execute(SHAPE) == shape
    assert worst < 2 * LOCK_TIMEOUT + 0.5
    expected = {f"{n:06}": f"Text {n}" for n in range(1, 2001)}
    for n in range(1, written + 1):
        expected[f"1{n:06}"] = "new"
        expected.pop(f"{100 + n:06}", None)
        if f"{1999 - n:06}" in expected:
            expected[f"{1999 - n:06}"] = "x"
    assert dict(database.execute("SELECT id, text FROM thing")) == expected
    assert database.execute("SELECT bool_and(length = length(text)) FROM thing") == [(True,)]
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute("DELETE FROM thing WHERE id = '000001'")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        database.execute("ALTER TABLE thing DISABLE TRIGGER USER; DELETE FROM thing")


@pytest.mark.parametrize("step", ["copy_rows", "build_indexes", "swap", "validate_references"])
def test_rebuilding_continues_after_each_step(
    database: Database, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(FURNISHED)
    shape = database.execute(SHAPE)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(f"amplifierd.common.migrations.Rebuilding.{step}", die)
        database.migrate(REBUILD)
    database.execute("DELETE FROM thing WHERE id = '000500'; INSERT INTO thing VALUES ('a', 'b')")
    database.migrate(REBUILD)
    assert database.execute(SHAPE) == shape
    assert database.execute("SELECT count(*), max(length) FROM thing") == [(2000, 9)]
    left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'rebuilt%'"
    assert database.execute(left) == [(0,)]


def forget_migration() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE id = (SELECT max(id) FROM django_migrations)"
        )


def test_tables_of_an_older_version_are_refused() -> None:
    schema.check_schema()
    forget_migration()
    with pytest.raises(CommandError, match=r"older version: .* is not applied. Run `.* ?migrate`"):
        schema.check_schema()


def test_a_process_waits_while_another_one_migrates() -> None:
    forget_migration()
    with psycopg.connect(conninfo(connection.settings_dict["NAME"])) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [schema.LOCK])
        schema.check_schema()


def test_tables_of_a_newer_version_are_used(caplog: pytest.LogCaptureFixture) -> None:
    MigrationRecorder(connection).record_applied("sessions_app", "9999_next")
    schema.check_schema()
    assert "migrated by a newer version (sessions_app.9999_next" in caplog.text
