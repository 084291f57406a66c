"""Which tables the daemon has, by the migrations that are applied, not by the code of today."""

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.migrations.loader import MigrationLoader

from amplifierd.backup.archive import Table

# Tables whose rows are worth nothing after a restore, and why.
LEFT_OUT = {
    "django_migrations": "a restore applies the migrations of the backup itself",
    "django_session": "a browser session is a credential; people sign in again",
    "sessions_app_process": "processes that ran then do not run any more",
}
COLUMNS = """
SELECT attname, CASE WHEN attidentity <> '' THEN pg_get_serial_sequence(%(table)s, attname) END
FROM pg_attribute
WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""


def list_applied(connection: BaseDatabaseWrapper | None) -> dict[str, list[str]]:
    """Return the names of the applied migrations of each app; without a connection all known."""
    loader = MigrationLoader(connection)
    names: dict[str, list[str]] = {}
    for app, name in sorted(loader.applied_migrations if connection else loader.disk_migrations):
        names.setdefault(app, []).append(name)
    return names


def find_unknown(migrations: Mapping[str, Iterable[str]]) -> list[str]:
    """Return those of the migrations that this version of the daemon does not have."""
    known = list_applied(None)
    return [
        f"{app}.{name}"
        for app, names in migrations.items()
        for name in names
        if name not in known.get(app, ())
    ]


def find_targets(migrations: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return the last of the migrations of each app: all others come before them."""
    graph = MigrationLoader(None, ignore_no_migrations=True).graph
    nodes = {(app, name) for app, names in migrations.items() for name in names}
    return sorted(
        node
        for node in nodes & graph.nodes.keys()
        if not any(
            child.key in nodes and child.key[0] == node[0]
            for child in graph.node_map[node].children
        )
    )


def list_tables(migrations: Mapping[str, Iterable[str]]) -> list[Table]:
    """Return the tables that these migrations make, each after those that it refers to."""
    state = MigrationLoader(None).project_state(find_targets(migrations))
    tables: dict[str, Table] = {}
    before: dict[str, set[str]] = {}
    for model in state.apps.get_models(include_auto_created=True):
        if not model._meta.managed or model._meta.proxy:
            continue
        name = model._meta.db_table
        others = {
            field.related_model._meta.db_table
            for field in model._meta.local_fields
            if field.related_model and getattr(field, "db_constraint", True)
        }
        tables[name] = Table(name, [], refers_to_itself=name in others)
        before[name] = others - {name}
    order = TopologicalSorter(before).static_order()
    return [tables[name] for name in order if name in tables and name not in LEFT_OUT]


def read_columns(cursor: CursorWrapper, table: Table) -> dict[str, str]:
    """Fill in the table's columns, and return the sequences of those that number its rows."""
    cursor.execute(COLUMNS, {"table": f'"{table.name}"'})
    found = cursor.fetchall()
    table.columns = [column for column, _ in found]
    return {column: sequence for column, sequence in found if sequence}
