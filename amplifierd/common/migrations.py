"""Migrations that never make a busy table wait, and whether the database has them all.

A statement that waits for an exclusive lock makes every later request on that table wait behind it.
So each transaction of a migration waits for locks at most LOCK_TIMEOUT, and is tried again later.
What takes long, such as an index, goes on beside the requests: `docs/upgrading.md` has the rules.
"""

import contextlib
import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, TypeVar

from django.contrib.postgres import operations as postgres
from django.contrib.postgres.operations import NotInTransactionMixin
from django.core.management.base import CommandError
from django.db import OperationalError, connections, migrations, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from psycopg import errors, sql

Result = TypeVar("Result")

# Seconds for which a migration waits for a lock, and requests behind it. It is below PostgreSQL's
# deadlock_timeout (1 s): in a deadlock the migration gives up, and not the request.
LOCK_TIMEOUT = 0.5
# So many seconds in each so-manieth try: an autovacuum that is in the way ends after the
# deadlock_timeout, and only for somebody who still waits.
LONG_TIMEOUT, LONG_EVERY = 1.5, 4
# Seconds before the next try, at first and at most; and after which a person has to look at it.
FIRST_PAUSE, LONGEST_PAUSE, GIVE_UP = 0.5, 15.0, 1800.0
# What passes once another transaction has ended.
LOCKED = (errors.LockNotAvailable, errors.DeadlockDetected)
# Rows of the first batch, and seconds that a batch is to take.
FIRST_BATCH, BATCH_SECONDS = 500, 0.1
# Time that others have after a batch, by the time that it took; and how much more at most.
REST, MOST_PATIENT = 2.0, 5.0

_is_migrated = False
_lock_timeout = LOCK_TIMEOUT


def is_migrated() -> bool:
    """Tell whether all migrations are applied; once they are, they remain so.

    Asks on a connection of its own, since that of the caller may be inside a broken transaction.
    Raises OperationalError if the database does not answer.
    """
    global _is_migrated
    if not _is_migrated:
        asking = connections.create_connection("default")
        try:
            executor = MigrationExecutor(asking)
            _is_migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        finally:
            asking.close()
    return _is_migrated


def forget() -> None:
    """Have the next call ask the database again; for tests."""
    global _is_migrated
    _is_migrated = False


class SchemaState(NamedTuple):
    """How the tables differ from those of this version: names such as `sessions_app.0012_…`."""

    unapplied: list[str]
    # Of a newer version.
    unknown: list[str]
    is_empty: bool
    known: int


def read_schema(connection: BaseDatabaseWrapper) -> SchemaState:
    """Compare the migrations that the database has with those of this version."""
    loader = MigrationLoader(connection)
    applied, known = loader.applied_migrations, loader.disk_migrations
    unapplied = [key for key in loader.graph.nodes if key not in applied]
    unknown = [
        key
        for key in applied
        if key not in known and key[0] in loader.migrated_apps and key not in loader.replacements
    ]
    names = [sorted(".".join(key) for key in keys) for keys in (unapplied, unknown)]
    return SchemaState(*names, is_empty=not applied, known=len(known))


@contextlib.contextmanager
def short_locks(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Be in a transaction that waits only shortly for each lock."""
    with transaction.atomic(using=connection.alias):
        # Local, so that it also holds behind a proxy that pools transactions.
        _execute(connection, f"SET LOCAL lock_timeout = {_lock_timeout * 1000:.0f}")
        yield


def change_in_batches(connection: BaseDatabaseWrapper, change: Callable[[int], int]) -> None:
    """Call `change(limit)`, each time in a transaction of its own, until it changes fewer rows.

    It returns how many it has changed. Between two calls others have at least twice as much time,
    and more if it becomes slower, because then the machine is busy.
    """
    size, best = FIRST_BATCH, float("inf")
    while True:
        started = time.monotonic()
        with short_locks(connection):
            changed = change(size)
        if changed < size:
            return
        took = max(0.001, time.monotonic() - started)
        best = min(best, took / size)
        time.sleep(REST * took * min(MOST_PATIENT, took / size / best))
        size = max(1, int(size * min(2.0, max(0.5, BATCH_SECONDS / took))))


def build_index(connection: BaseDatabaseWrapper, name: str, statement: str) -> None:
    """Execute a CREATE INDEX CONCURRENTLY, unless the index is there.

    One that was interrupted has left an index that is not valid; it is made anew.
    """
    found = _fetch(
        connection,
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
        [_quote(name)],
    )
    if found == [(True,)]:
        return
    if found:
        _execute(connection, f"DROP INDEX CONCURRENTLY {_quote(name)}")
    _execute(connection, statement)


class PatientExecutor(MigrationExecutor):
    """Applies migrations with short waits for locks, and again and again until they succeed.

    An atomic migration is one transaction. Of another one each operation is a transaction of its
    own, in which PostgreSQL also notes how far the migration has come: if the process dies, the
    next one continues there. What cannot run in a transaction can be repeated instead.
    """

    announce: Callable[[str], None] = staticmethod(lambda line: None)

    def apply_migration(
        self, state: Any, migration: Any, fake: bool = False, fake_initial: bool = False
    ) -> Any:
        if fake or fake_initial:
            return super().apply_migration(state, migration, fake, fake_initial)
        self._report("apply_start", migration)
        if migration.atomic:
            state = self._retry(f"{migration}", lambda: self._apply_at_once(state, migration))
        else:
            state = self._apply_stepwise(state, migration)
        self._report("apply_success", migration)
        return state

    def unapply_migration(self, state: Any, migration: Any, fake: bool = False) -> Any:
        def unapply() -> Any:
            with short_locks(self.connection):
                return super(PatientExecutor, self).unapply_migration(state, migration, fake)

        if migration.atomic:
            return self._retry(f"{migration}", unapply)
        return super().unapply_migration(state, migration, fake)

    def _report(self, action: str, migration: Any) -> None:
        if self.progress_callback:
            self.progress_callback(action, migration, False)

    def _apply_at_once(self, state: Any, migration: Any) -> Any:
        with short_locks(self.connection):
            with self.connection.schema_editor(atomic=True) as editor:
                state = migration.apply(state.clone(), editor)
            # After the statements that Django defers to the end of the editor.
            self.record_migration(migration)
        return state

    def _apply_stepwise(self, state: Any, migration: Any) -> Any:
        progress = Progress(self.connection, migration)
        done = progress.read()
        for number, operation in enumerate(migration.operations, 1):
            if number <= done:
                operation.state_forwards(migration.app_label, state)
                continue
            step = f"{migration}: {operation.describe()}"

            def apply(before: Any = state, operation: Any = operation, number: int = number) -> Any:
                return self._apply_operation(before, migration, operation, number, progress)

            state = self._retry(step, apply)
        with short_locks(self.connection):
            self.record_migration(migration)
            progress.clear()
        return state

    def _apply_operation(
        self, before: Any, migration: Any, operation: Operation, number: int, progress: "Progress"
    ) -> Any:
        label = migration.app_label
        after = before.clone()
        operation.state_forwards(label, after)
        if isinstance(operation, NotInTransactionMixin):
            with self.connection.schema_editor(atomic=False) as editor:
                operation.database_forwards(label, editor, before, after)
            progress.write(number)
        else:
            with short_locks(self.connection):
                with self.connection.schema_editor(atomic=True) as editor:
                    operation.database_forwards(label, editor, before, after)
                progress.write(number)
        return after

    def _retry(self, step: str, attempt: Callable[[], Result]) -> Result:
        """Return what an attempt returns, once no other transaction is in its way."""
        global _lock_timeout
        pause, failing_since, tries = FIRST_PAUSE, 0.0, 0
        while True:
            started, tries = time.monotonic(), tries + 1
            _lock_timeout = LOCK_TIMEOUT if tries % LONG_EVERY else LONG_TIMEOUT
            try:
                return attempt()
            except OperationalError as error:
                if not isinstance(error.__cause__, LOCKED):
                    raise
                if not failing_since or time.monotonic() - started > LONGEST_PAUSE:
                    # What has worked for so long has come further.
                    pause, failing_since = FIRST_PAUSE, time.monotonic()
                reason = str(error).strip().partition("\n")[0]
                if time.monotonic() - failing_since > GIVE_UP:
                    minutes = f"{GIVE_UP / 60:.0f} minutes"
                    raise CommandError(
                        f"{step}: a table has been in use for {minutes} ({reason})."
                        " End the transaction that holds it (pg_stat_activity names the oldest),"
                        " and run this again: it continues where it has stopped."
                    ) from error
            finally:
                _lock_timeout = LOCK_TIMEOUT
            self.announce(f"{step}: waits for other transactions ({reason}), next try soon")
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE)


class Progress:
    """How many operations of a migration are applied, in a table that is gone in the end."""

    TABLE = "amplifierd_migration_progress"

    def __init__(self, connection: BaseDatabaseWrapper, migration: Any) -> None:
        self.connection = connection
        self.key = f"{migration.app_label}.{migration.name}"

    def read(self) -> int:
        columns = "migration text PRIMARY KEY, operations int NOT NULL"
        _execute(self.connection, f"CREATE TABLE IF NOT EXISTS {self.TABLE} ({columns})")
        statement = f"SELECT operations FROM {self.TABLE} WHERE migration = %s"  # noqa: S608
        found = _fetch(self.connection, statement, [self.key])
        return int(found[0][0]) if found else 0

    def write(self, number: int) -> None:
        _execute(
            self.connection,
            f"INSERT INTO {self.TABLE} VALUES (%s, %s)"  # noqa: S608
            " ON CONFLICT (migration) DO UPDATE SET operations = excluded.operations",
            [self.key, number],
        )

    def clear(self) -> None:
        _execute(self.connection, f"DROP TABLE {self.TABLE}")


class Together(migrations.SeparateDatabaseAndState):
    """Operations that are one transaction in a migration that is not atomic."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        super().__init__(operations, operations)

    def describe(self) -> str:
        return "; ".join(operation.describe() for operation in self.database_operations)


class AddIndexConcurrently(postgres.AddIndexConcurrently):
    """Django's, which can be repeated after it was interrupted."""

    def database_forwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        self._ensure_not_in_transaction(editor)
        model = after.apps.get_model(app_label, self.model_name)
        statement = self.index.create_sql(model, editor, concurrently=True)
        build_index(editor.connection, self.index.name, str(statement))


class ReplaceIndexConcurrently(AddIndexConcurrently):
    """Build another index beside the one of the same name, and give it the name in the end."""

    def state_forwards(self, app_label: str, state: Any) -> None:
        state.remove_index(app_label, self.model_name_lower, self.index.name)
        super().state_forwards(app_label, state)

    def database_forwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        self._ensure_not_in_transaction(editor)
        model = after.apps.get_model(app_label, self.model_name)
        beside = deepcopy(self.index)
        beside.name = _derive(self.index.name)
        statement = beside.create_sql(model, editor, concurrently=True)
        build_index(editor.connection, beside.name, str(statement))
        with short_locks(editor.connection):
            _execute(editor.connection, f"DROP INDEX {_quote(self.index.name)}")
            rename = f"ALTER INDEX {_quote(beside.name)} RENAME TO {_quote(self.index.name)}"
            _execute(editor.connection, rename)

    def database_backwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        raise NotImplementedError("The index before is not known.")


class AddUniqueConcurrently(NotInTransactionMixin, migrations.AddConstraint):
    """Add a unique constraint over expressions or with a condition: an index for PostgreSQL."""

    def database_forwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        self._ensure_not_in_transaction(editor)
        model = after.apps.get_model(app_label, self.model_name)
        statement = str(self.constraint.create_sql(model, editor))
        plain, concurrent = "CREATE UNIQUE INDEX ", "CREATE UNIQUE INDEX CONCURRENTLY "
        if not statement.startswith(plain):
            raise TypeError("Give the constraint expressions or a condition.")
        statement = statement.replace(plain, concurrent, 1)
        build_index(editor.connection, self.constraint.name, statement)


class RunInBatches(NotInTransactionMixin, Operation):
    """Repeat a statement that changes at most `%(limit)s` rows, until it changes fewer.

    It must not find again what it has changed: then it continues after an interruption.
    """

    reversible = True

    def __init__(self, statement: str) -> None:
        self.statement = statement

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        self._ensure_not_in_transaction(editor)

        def change(limit: int) -> int:
            with editor.connection.cursor() as cursor:
                cursor.execute(self.statement, {"limit": limit})
                return int(cursor.rowcount)

        change_in_batches(editor.connection, change)

    def database_backwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        pass

    def describe(self) -> str:
        return "Change rows in batches"


class RebuildTable(NotInTransactionMixin, Operation):
    """Change columns in a way that rewrites the table, beside the requests that use it.

    A copy of the empty table is changed (`changes`, SQL with `{table}`), triggers keep it up with
    what is written, the rows follow in batches in the order of the `key` columns, then the indexes.
    In the end the copy takes the place of the table, which needs an exclusive lock for
    milliseconds. `is_done` is a query that says whether that has happened: it can be repeated.
    Constraints, indexes, triggers, foreign keys and grants stay as they are. Views of the table and
    identity columns are refused by PostgreSQL or by this operation. Room for a second copy of
    the table is needed.
    """

    reversible = False

    def __init__(
        self,
        model_name: str,
        key: Sequence[str],
        changes: Sequence[str],
        is_done: str,
        state_operations: Sequence[Operation],
    ) -> None:
        self.model_name = model_name
        self.key, self.changes, self.is_done = key, changes, is_done
        self.state_operations = state_operations

    def state_forwards(self, app_label: str, state: Any) -> None:
        for operation in self.state_operations:
            operation.state_forwards(app_label, state)

    def describe(self) -> str:
        return f"Rebuild the table of {self.model_name}"

    def database_forwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        self._ensure_not_in_transaction(editor)
        table = after.apps.get_model(app_label, self.model_name)._meta.db_table
        rebuilding = Rebuilding(editor.connection, table, list(self.key))
        if _fetch(editor.connection, self.is_done) != [(True,)]:
            rebuilding.prepare(self.changes)
            rebuilding.copy_rows()
            rebuilding.build_indexes()
            rebuilding.swap()
        rebuilding.validate_references()

    def database_backwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        raise NotImplementedError("Restore a backup instead.")


# Columns whose values can be written.
COLUMNS = """
SELECT attname, attidentity <> '' FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""
# Name, whether unique, what follows USING, and the constraint whose index it is.
INDEXES = """
SELECT c.relname, i.indisunique, pg_get_indexdef(i.indexrelid), con.conname, con.contype,
    con.condeferrable, con.condeferred
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid
WHERE i.indrelid = %s::regclass
ORDER BY c.relname
"""
FOREIGN_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'f' AND {side} = %s::regclass AND conparentid = 0
ORDER BY conname
"""
NOT_VALID = """
SELECT conrelid::regclass::text, conname FROM pg_constraint
WHERE contype = 'f' AND NOT convalidated AND %s::regclass IN (conrelid, confrelid)
"""
TRIGGERS = """
SELECT tgname, pg_get_triggerdef(oid), obj_description(oid, 'pg_trigger') FROM pg_trigger
WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgname NOT LIKE 'rebuilding\\_%%'
ORDER BY tgname
"""
GRANTS = """
SELECT privilege_type,
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM pg_class, aclexplode(relacl) WHERE oid = %s::regclass AND grantee <> relowner
"""
# An update is a deletion and an insertion. Rows that are copied meanwhile are locked for that.
MIRROR = """
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN TRUNCATE {copy}; END IF;
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        DELETE FROM {copy} WHERE ({key}) IN (SELECT {key} FROM removed);
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO {copy} ({columns}) SELECT {columns} FROM added ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER rebuilding_inserts AFTER INSERT ON {table} REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION {function}();
CREATE TRIGGER rebuilding_updates AFTER UPDATE ON {table}
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION {function}();
CREATE TRIGGER rebuilding_deletes AFTER DELETE ON {table} REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION {function}();
CREATE TRIGGER rebuilding_truncates AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {function}();
"""
# A row that is being deleted is waited for; one that is copied is not deleted before that commits.
COPY = """
WITH batch AS MATERIALIZED (
    SELECT {columns} FROM {table} {condition} ORDER BY {key} LIMIT {limit} FOR SHARE
), copied AS (
    INSERT INTO {copy} ({columns}) SELECT {columns} FROM batch ON CONFLICT DO NOTHING
)
SELECT (SELECT count(*) FROM batch),
    (SELECT jsonb_build_array({key})::text FROM batch ORDER BY {descending} LIMIT 1)
"""


class Rebuilding:
    """The steps of RebuildTable; each can be repeated."""

    def __init__(self, connection: BaseDatabaseWrapper, table: str, key: list[str]) -> None:
        self.connection = connection
        self.table, self.name = _quote(table), table
        self.copy, self.function = _quote(_derive(table)), _quote(_derive(f"{table} mirror"))
        self.key = ", ".join(map(_quote, key))
        self.descending = ", ".join(f"{_quote(column)} DESC" for column in key)

    def prepare(self, changes: Sequence[str]) -> None:
        """Create the changed copy, and have it follow what is written from now on."""
        if self._fetch("SELECT to_regclass(%s) IS NOT NULL", [self.copy]) == [(True,)]:
            return
        with short_locks(self.connection):
            self._execute(
                f"CREATE TABLE {self.copy} (LIKE {self.table} INCLUDING ALL EXCLUDING INDEXES"
                " EXCLUDING COMMENTS)"
            )
            # It would be in the way of the comments that say how far the copying has come.
            self._execute(f"ALTER TABLE {self.copy} SET (autovacuum_enabled = off)")
            for change in changes:
                self._execute(change.format(table=self.copy))
            for privilege, grantee in self._fetch(GRANTS, [self.table]):
                self._execute(f"GRANT {privilege} ON {self.copy} TO {grantee}")
            # A key that is there twice is not copied twice.
            for name, is_unique, definition, *_ in self._fetch(INDEXES, [self.table]):
                if is_unique:
                    self._execute(self._define_index(name, is_unique, definition))
            self._execute(
                MIRROR.format(
                    function=self.function,
                    copy=self.copy,
                    table=self.table,
                    key=self.key,
                    columns=self._find_columns(),
                )
            )

    def copy_rows(self) -> None:
        """Copy what was there before, from where an earlier process has stopped."""
        columns = self._find_columns()

        def copy(limit: int) -> int:
            [(last,)] = self._fetch("SELECT obj_description(%s::regclass)", [self.copy])
            condition = f"WHERE ({self.key}) > ({_literals(json.loads(last))})" if last else ""
            statement = COPY.format(
                columns=columns,
                table=self.table,
                copy=self.copy,
                condition=condition,
                key=self.key,
                descending=self.descending,
                limit=limit,
            )
            [(count, newest)] = self._fetch(statement)
            if newest:
                self._execute(f"COMMENT ON TABLE {self.copy} IS {_literals([newest])}")
            return int(count)

        change_in_batches(self.connection, copy)

    def build_indexes(self) -> None:
        """Give the copy all other indexes, its foreign keys, and the planner's statistics."""
        for name, is_unique, definition, *_ in self._fetch(INDEXES, [self.table]):
            statement = self._define_index(name, is_unique, definition, " CONCURRENTLY")
            build_index(self.connection, _derive(name), statement)
        there = {name for _, name, _ in self._fetch_keys("conrelid", self.copy)}
        for _, name, definition in self._fetch_keys("conrelid", self.table):
            if name not in there:
                with short_locks(self.connection):
                    self._add_key(self.copy, name, definition)
        self._validate(self.copy)
        self._execute(f"VACUUM (ANALYZE) {self.copy}")

    def swap(self) -> None:
        """Put the copy into the place of the table."""
        with short_locks(self.connection):
            references = self._fetch_keys("confrelid", self.table)
            tables = {self.table, self.copy, *(table for table, _, _ in references)}
            self._execute(f"LOCK TABLE {', '.join(sorted(tables))} IN ACCESS EXCLUSIVE MODE")
            self._execute(f"ALTER TABLE {self.copy} RESET (autovacuum_enabled)")
            options = "SELECT unnest(reloptions) FROM pg_class WHERE oid = %s::regclass"
            for (option,) in self._fetch(options, [self.table]):
                self._execute(f"ALTER TABLE {self.copy} SET ({option})")
            indexes = self._fetch(INDEXES, [self.table])
            triggers = self._fetch(TRIGGERS, [self.table])
            [(comment,)] = self._fetch("SELECT obj_description(%s::regclass)", [self.table])
            for table, name, _ in references:
                self._execute(f"ALTER TABLE {table} DROP CONSTRAINT {_quote(name)}")
            self._execute(f"DROP TABLE {self.table}")
            self._execute(f"DROP FUNCTION {self.function}")
            self._execute(f"ALTER TABLE {self.copy} RENAME TO {self.table}")
            comments = "NULL" if comment is None else _literals([comment])
            self._execute(f"COMMENT ON TABLE {self.table} IS {comments}")
            for name, _, _, constraint, kind, is_deferrable, is_deferred in indexes:
                if constraint is None:
                    self._execute(f"ALTER INDEX {_quote(_derive(name))} RENAME TO {_quote(name)}")
                    continue
                self._execute(
                    f"ALTER TABLE {self.table} ADD CONSTRAINT {_quote(constraint)}"
                    f" {'PRIMARY KEY' if kind == 'p' else 'UNIQUE'} USING INDEX"
                    f" {_quote(_derive(name))}{' DEFERRABLE' * is_deferrable}"
                    f"{' INITIALLY DEFERRED' * is_deferred}"
                )
            for name, definition, comment in triggers:
                self._execute(definition)
                if comment is not None:
                    target = f"TRIGGER {_quote(name)} ON {self.table}"
                    self._execute(f"COMMENT ON {target} IS {_literals([comment])}")
            for table, name, definition in references:
                self._add_key(table, name, definition)

    def validate_references(self) -> None:
        """Check the foreign keys, which need no exclusive lock for that."""
        self._validate(self.table)

    def _validate(self, table: str) -> None:
        for owner, name in self._fetch(NOT_VALID, [table]):
            self._execute(f"ALTER TABLE {owner} VALIDATE CONSTRAINT {_quote(name)}")

    def _add_key(self, table: str, name: str, definition: str) -> None:
        kept = definition.removesuffix(" NOT VALID")
        self._execute(f"ALTER TABLE {table} ADD CONSTRAINT {_quote(name)} {kept} NOT VALID")

    def _define_index(
        self, name: str, is_unique: bool, definition: str, concurrently: str = ""
    ) -> str:
        after = re.sub(r"^.*? USING ", "", definition, count=1)
        kind = "UNIQUE INDEX" if is_unique else "INDEX"
        return f"CREATE {kind}{concurrently} {_quote(_derive(name))} ON {self.copy} USING {after}"

    def _find_columns(self) -> str:
        """Return the columns that both tables have."""
        columns = self._fetch(COLUMNS, [self.table])
        if any(is_identity for _, is_identity in columns):
            raise TypeError(f"{self.name} has an identity column, which would begin at 1 again")
        copied = {name for name, _ in self._fetch(COLUMNS, [self.copy])}
        return ", ".join(_quote(name) for name, _ in columns if name in copied)

    def _fetch_keys(self, side: str, table: str) -> list[tuple[Any, ...]]:
        return self._fetch(FOREIGN_KEYS.format(side=side), [table])

    def _fetch(self, statement: str, parameters: Sequence[Any] | None = None) -> Any:
        return _fetch(self.connection, statement, parameters)

    def _execute(self, statement: str) -> None:
        _execute(self.connection, statement)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literals(values: Sequence[Any]) -> str:
    return ", ".join(sql.Literal(value).as_string(None) for value in values)


def _derive(name: str) -> str:
    """Return the name, not too long, of what is to take the place of something."""
    return f"rebuilt_{hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:20]}"


def _fetch(
    connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any] | None = None
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def _execute(
    connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any] | None = None
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
