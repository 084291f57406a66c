"""Migrations are read: none makes a busy table wait, or breaks processes of the version before."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.postgres import operations as postgres
from django.contrib.postgres.operations import NotInTransactionMixin
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.models import Q, Value
from django.db.models.functions import Now, Upper

from amplifierd.common.migrations import AddIndexConcurrently, RebuildTable, Together

# The last migrations of 0.1, which are older than these rules.
OLDEST = {"sessions_app": 7, "profiles_app": 3, "amplifierd": 1}
# Tables that every request uses, or that are large. A migration locks one of them at a time.
BUSY = {"session", "message", "event", "run", "checkpoint", "step"}
# Nothing but their own row in a catalogue changes, or they take no exclusive lock.
HARMLESS = (
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    postgres.ValidateConstraint,
    NotInTransactionMixin,
)
# They change what old processes ask for by its name.
BREAKING = (
    migrations.RenameModel,
    migrations.DeleteModel,
    migrations.AlterModelTable,
    migrations.RenameField,
    migrations.RemoveField,
)
OWN_DEFAULTS = (Value, Now)
LOADER = MigrationLoader(None)


def own_migrations() -> list[Any]:
    """Return those of our apps that the rules are for."""
    return [
        migration
        for (app, name), migration in sorted(LOADER.disk_migrations.items())
        if app in OLDEST and int(name[:4]) > OLDEST[app]
    ]


def state_before(migration: Any) -> Any:
    key = (migration.app_label, migration.name)
    return LOADER.project_state(key, at_end=False)


def find_hazards(migration: Any, state: Any) -> Iterator[str]:
    """Yield what a migration must not do without a reason: the operation, and what it is of."""
    created: set[str] = set()
    for transaction in split(migration):
        locked: set[str] = set()
        for operation in transaction:
            name = target(operation)
            if isinstance(operation, migrations.CreateModel):
                created.add(operation.name.lower())
            if name in created:
                operation.state_forwards(migration.app_label, state)
                continue
            if hazard := find_hazard(operation, name, migration, state):
                yield f"{hazard} {name}".strip()
            if not isinstance(operation, HARMLESS) and name.partition(".")[0] in BUSY:
                locked.add(name.partition(".")[0])
            operation.state_forwards(migration.app_label, state)
        if len(locked) > 1:
            yield f"locks {', '.join(sorted(locked))}"


def split(migration: Any) -> list[list[Any]]:
    """Return the operations of each transaction."""
    if migration.atomic:
        return [flatten(migration.operations)]
    return [flatten([operation]) for operation in migration.operations]


def flatten(operations: Any) -> list[Any]:
    found = []
    for operation in operations:
        if isinstance(operation, Together):
            found += flatten(operation.database_operations)
        else:
            found.append(operation)
    return found


def target(operation: Any) -> str:
    """Return the model of an operation, and its field: `run.status`."""
    model = getattr(operation, "model_name", None) or getattr(operation, "name", None) or ""
    if hasattr(operation, "model_name") and hasattr(operation, "field"):
        return f"{model}.{operation.name}".lower()
    if isinstance(operation, migrations.RemoveField):
        return f"{model}.{operation.name}".lower()
    if isinstance(operation, migrations.RenameField):
        return f"{model}.{operation.old_name}".lower()
    if isinstance(operation, migrations.RenameModel):
        return str(operation.old_name).lower()
    return str(model).lower()


def find_hazard(operation: Any, name: str, migration: Any, state: Any) -> str:
    """Return the operation's name if it needs a reason."""
    kind = type(operation).__name__
    if isinstance(operation, NotInTransactionMixin):
        return f"{kind} in a transaction" if migration.atomic else ""
    if isinstance(operation, BREAKING):
        return kind
    if isinstance(operation, (migrations.RunSQL, migrations.RunPython)):
        return kind
    if isinstance(operation, migrations.SeparateDatabaseAndState):
        return kind if operation.database_operations else ""
    if isinstance(operation, migrations.AddField):
        return kind if is_bad_column(operation.field) else ""
    if isinstance(operation, migrations.AlterField):
        model = state.models[migration.app_label, operation.model_name_lower]
        return kind if is_changed(model.fields[operation.name], operation.field) else ""
    if isinstance(operation, postgres.AddConstraintNotValid):
        return ""
    if isinstance(operation, (migrations.AddIndex, migrations.AddConstraint)):
        return kind if type(operation).__module__.startswith("django") else ""
    return ""


def is_bad_column(field: Any) -> bool:
    """Tell whether adding it rewrites the table, builds an index, or breaks older processes."""
    if isinstance(field, models.ManyToManyField):
        return False
    if isinstance(field, models.GeneratedField) or field.db_index or field.unique:
        return True
    return not (field.null or isinstance(field._db_default_expression, OWN_DEFAULTS)) or (
        field.has_db_default() and not isinstance(field._db_default_expression, OWN_DEFAULTS)
    )


def is_changed(before: Any, after: Any) -> bool:
    """Tell whether PostgreSQL reads or rewrites the table for it."""
    if before.is_relation or after.is_relation:
        # Without its model rendered, a foreign key has no type; it has that of an id in any case.
        types = [str(field.remote_field and field.remote_field.model) for field in (before, after)]
    else:
        types = [field.db_parameters(connection)["type"] for field in (before, after)]
    # Nothing means that there is no limit.
    lengths = [getattr(field, "max_length", None) or 1 << 30 for field in (before, after)]
    is_wider = lengths[0] <= lengths[1]
    both_text = all(str(kind).startswith(("varchar", "text")) for kind in types)
    return (
        (types[0] != types[1] and not (both_text and is_wider))
        or (before.null and not after.null)
        or (not before.unique and after.unique)
        or (not before.db_index and after.db_index)
    )


@pytest.mark.parametrize("migration", own_migrations(), ids=str)
def test_each_hazard_of_a_migration_has_a_reason(migration: Any) -> None:
    reasons = dict(getattr(migration, "reasons", {}))
    used = set()
    for hazard in find_hazards(migration, state_before(migration)):
        kind = hazard.partition(" ")[0]
        known = hazard if hazard in reasons else kind
        assert known in reasons, (
            f"{migration}: {hazard!r} would make requests wait, or break processes of the version"
            " before: see docs/upgrading.md. If it does not, add it to the migration's `reasons`."
        )
        used.add(known)
    assert used == set(reasons), "reasons of nothing"


class Probe(migrations.Migration):
    """A migration of operations that are given."""

    def __init__(self, *operations: Any, atomic: bool = True) -> None:
        super().__init__("probe", "sessions_app")
        vars(self).update(operations=list(operations), atomic=atomic)


def latest() -> Any:
    return LOADER.project_state()


def add(field: Any, model: str = "message") -> migrations.AddField:
    return migrations.AddField(model, "extra", field)


CHECK = models.CheckConstraint(condition=Q(seq__gte=0), name="probe")
INDEX = models.Index(fields=["role"], name="probe")
GENERATED = models.GeneratedField(
    expression=Upper("role"), output_field=models.TextField(), db_persist=True
)
CASES: dict[str, tuple[list[str], Probe]] = {
    "nullable": ([], Probe(add(models.TextField(null=True)))),
    "default": ([], Probe(add(models.TextField(default="", db_default="")))),
    "no_default": (["AddField message.extra"], Probe(add(models.TextField(default="")))),
    "generated": (["AddField message.extra"], Probe(add(GENERATED))),
    "indexed": (["AddField message.extra"], Probe(add(models.TextField(null=True, db_index=True)))),
    "random": (
        ["AddField message.extra"],
        Probe(add(models.FloatField(db_default=models.functions.Random()))),
    ),
    "removed": (["RemoveField message.agent"], Probe(migrations.RemoveField("message", "agent"))),
    "renamed": (
        ["RenameField message.agent"],
        Probe(migrations.RenameField("message", "agent", "x")),
    ),
    "index": (["AddIndex message"], Probe(migrations.AddIndex("message", INDEX))),
    "concurrently": ([], Probe(AddIndexConcurrently("message", INDEX), atomic=False)),
    "concurrently_but_atomic": (
        ["AddIndexConcurrently in a transaction message"],
        Probe(AddIndexConcurrently("message", INDEX)),
    ),
    "check": (["AddConstraint message"], Probe(migrations.AddConstraint("message", CHECK))),
    "not_valid": ([], Probe(postgres.AddConstraintNotValid("message", CHECK), atomic=False)),
    "type": (
        ["AlterField message.seq"],
        Probe(migrations.AlterField("message", "seq", models.BigIntegerField())),
    ),
    "longer": (
        [],
        Probe(
            migrations.AlterField("message", "agent", models.CharField(max_length=400, null=True))
        ),
    ),
    "sql": (["RunSQL"], Probe(migrations.RunSQL("UPDATE sessions_app_message SET seq = seq"))),
    "two_tables": (
        ["locks message, run"],
        Probe(add(models.TextField(null=True)), add(models.TextField(null=True), "run")),
    ),
    "one_at_a_time": (
        [],
        Probe(
            add(models.TextField(null=True)),
            add(models.TextField(null=True), "run"),
            atomic=False,
        ),
    ),
    "rebuilt": (
        [],
        Probe(RebuildTable("message", ["id"], [], "SELECT true", [add(GENERATED)]), atomic=False),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_hazards_are_found(case: str) -> None:
    expected, probe = CASES[case]
    assert list(find_hazards(probe, latest())) == expected
