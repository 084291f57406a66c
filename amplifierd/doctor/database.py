"""Checks of the database: reachable, usable, migrated, its clock, its connections and its queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, Max, Min, Q

from amplifierd.common.migrations import read_schema
from amplifierd.common.program import command
from amplifierd.common.statements import close_connections, read_clock
from amplifierd.doctor import CheckResult, error, machine, ok, warning
from amplifierd.postgres import PostgresError, embedded_url, leaving_on_signals, running, schema
from amplifierd.postgres.data_folder import Layout
from sessions_app.models import Run
from sessions_app.models.daemon import ProcessKind
from sessions_app.services import processes
from sessions_app.services.epoch import read_epoch
from sessions_app.states import RunStatus

# Seconds by which the clocks may differ: from the first on a warning, from the second an error.
SKEW, WRONG = 2.0, 60.0
# The share of connections in use above which they may soon run out.
CROWDED = 0.8

START = f"Start the daemon with `{command('serve')}`"
NOT_MADE = warning("database", "there is none yet in this data folder", f"{START}.")
SIZE = "SELECT pg_size_pretty(pg_database_size(current_database()))"
WRITES = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool"


@contextmanager
def open_database() -> Iterator[CheckResult]:
    """Check the database; an embedded one is kept running while the block runs."""
    if embedded_url(settings.HOME) != settings.DATABASE_URL:
        yield _examine_server("from DATABASE_URL", "Start it, or correct DATABASE_URL.")
        return
    if not Layout(settings.HOME).data.exists():
        yield NOT_MADE
        return
    try:
        with leaving_on_signals(), running(settings.HOME):
            yield _examine_server("embedded", f"{START}.")
            close_connections()
    except PostgresError as reason:
        yield error("database", str(reason), "Correct what its log names, then run this again.")


def migrations() -> Iterator[CheckResult]:
    """Check that the tables are those of this version."""
    state = read_schema(connection)
    if state.unapplied:
        says = f"{len(state.unapplied)} are not applied, the first is {state.unapplied[0]}"
        todo = f"Run `{command('migrate')}`, or start the daemon, which does it."
        yield error("migrations", says, todo)
    elif state.unknown:
        says = f"the database has {state.unknown[0]}, which this version does not know"
        todo = "A newer version has used this database: install that one before the one after it."
        yield warning("migrations", says, todo)
    else:
        yield ok("migrations", f"all {state.known} applied")


def protections() -> Iterator[CheckResult]:
    """Check what a proxy between the daemon and PostgreSQL takes away."""
    with schema.open_connection("doctor") as reached:
        weaknesses = list(schema.find_weaknesses(reached))
    for says, todo in weaknesses:
        yield warning("protections", says, f"{todo}.")
    if not weaknesses:
        yield ok("protections", "limits of statements and transactions are in force")


def clock() -> Iterator[CheckResult]:
    """Compare this machine's clock with the database's, which decides when leases expire."""
    before = datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [there] = cursor.fetchone()
    after = datetime.now(UTC)
    apart = (there - (before + (after - before) / 2)).total_seconds()
    says = f"{abs(apart):.1f} s {'ahead of' if apart < 0 else 'behind'} the database's"
    todo = "Set both clocks by NTP: times of messages and the expiry of keys depend on them."
    if abs(apart) > WRONG:
        yield error("clock", says, todo)
    elif abs(apart) > SKEW:
        yield warning("clock", says, todo)
    else:
        yield ok("clock", f"within {SKEW:.0f} s of the database's")


# Function → a call of it: what the epoch of the journals is made of.
EPOCH_PARTS = {
    "pg_control_system()": "SELECT system_identifier FROM pg_control_system()",
    "pg_walfile_name(pg_lsn)": "SELECT pg_walfile_name(pg_current_wal_insert_lsn())",
}


def epoch() -> Iterator[CheckResult]:
    """Check that a failover changes the epoch of the journals, so that clients are told."""
    refused = {}
    for function, call in EPOCH_PARTS.items():
        try:
            with connection.cursor() as cursor:
                cursor.execute(call)
        except DatabaseError as reason:
            refused[function] = str(reason).partition("\n")[0]
    if refused:
        says = f"{', '.join(refused)} cannot be called: {next(iter(refused.values()))}"
        todo = (
            "Grant EXECUTE on it to the role of DATABASE_URL. Without it, clients are not told if a"
            f" failover loses transactions: run `{command('new_epoch')}` after one."
        )
        yield warning("epoch", says, todo)
    else:
        yield ok("epoch", f"{read_epoch()}, and a failover begins a new one")


def connections() -> Iterator[CheckResult]:
    """Check how many connections are left."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
        )
        used, most = cursor.fetchone()
    says = f"{used} of {most} in use"
    if used > CROWDED * most:
        todo = "Raise max_connections of PostgreSQL, or lower AMPLIFIERD_POOL."
        yield warning("connections", says, todo)
    else:
        yield ok("connections", says)


def _examine_server(which: str, todo: str) -> CheckResult:
    """Check the database on a new connection: a pool would not report why it cannot connect."""
    try:
        with schema.open_connection("doctor") as reached:
            [(name, encoding, major, version)] = reached.execute(schema.FACTS)
            [(size,)] = reached.execute(SIZE)
            [(in_recovery, is_read_only)] = reached.execute(WRITES)
    except psycopg.Error as reason:
        lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
        return error("database", f"{which}, does not answer: {lines[0]}", todo)
    says = f"{which}, PostgreSQL {version}, {encoding}, {size}"
    for fault, remedy in schema.find_faults(major, version, encoding, name):
        return error("database", f"{says}: {fault}", f"{remedy}.")
    if in_recovery:
        remedy = "Name the primary in DATABASE_URL, or wait until this one is promoted."
        return error("database", f"{says}: in recovery, it takes no writes", remedy)
    if is_read_only:
        remedy = "Reset default_transaction_read_only of the server, the database or the role."
        return error("database", f"{says}: read-only, it takes no writes", remedy)
    return ok("database", says)


# Seconds for which a run may wait before there is a warning.
LONG = 60.0


def alive() -> int:
    """Return how many workers are alive, by the database's clock."""
    return processes.alive().filter(kind=ProcessKind.WORKER).count()


def workers() -> Iterator[CheckResult]:
    """Check that workers execute runs."""
    living, served = alive(), machine.find_daemon()
    if living:
        held = _runs().get("running") or 0
        yield ok("workers", f"{living} alive, {held} runs under way")
    elif served:
        yield error(
            "workers",
            f"none is alive, although the daemon runs (pid {served['pid']})",
            "Read the output of `serve`: it starts a worker that has died again.",
        )
    else:
        yield warning(
            "workers",
            "none is alive: messages are accepted, but wait",
            f"{START}, or `{command('run_worker')}`.",
        )


def queue() -> Iterator[CheckResult]:
    """Check how many runs wait, and for how long."""
    waiting = _runs()
    seconds = _since(waiting["oldest"])
    says = f"{waiting['queued']} queued"
    if not waiting["queued"]:
        yield ok("queue", "nothing waits")
    elif seconds <= LONG:
        yield ok("queue", f"{says}, the oldest for {seconds:.0f} s")
    elif alive():
        todo = "Add workers (AMPLIFIERD_WORKERS) or raise AMPLIFIERD_CONCURRENCY."
        yield warning("queue", f"{says}, the oldest for {_long(seconds)}", todo)
    else:
        todo = f"{START}: nobody executes them."
        yield error("queue", f"{says}, the oldest for {_long(seconds)}", todo)


def leases() -> Iterator[CheckResult]:
    """Check for runs whose worker has died."""
    found = Run.objects.with_expired_lease().aggregate(
        count=Count("id"), last=Max("worker"), first=Min("lease_expires_at")
    )
    if not found["count"]:
        yield ok("leases", "none has expired")
        return
    seconds = _since(found["first"])
    says = f"{found['count']} expired, one of {found['last']}, for {_long(seconds)}"
    if not alive():
        yield error("leases", says, f"{START}: it takes them over.")
    elif seconds > settings.LEASE_SECONDS:
        yield error("leases", says, "Restart the workers: those that are alive take no run over.")
    else:
        todo = f"Wait: a worker takes them over within {settings.LEASE_SECONDS // 3 + 1} s."
        yield warning("leases", says, todo)


def _runs() -> dict[str, Any]:
    """Count the runs that are queued and running; `oldest` is since when the oldest one waits."""
    queued, running = Q(status=RunStatus.QUEUED), Q(status=RunStatus.RUNNING)
    # This condition lets PostgreSQL use the index of open runs.
    found = Run.objects.filter(status__in=("queued", "running"))
    return found.aggregate(
        queued=Count("id", filter=queued),
        running=Count("id", filter=running),
        oldest=Min("created_at", filter=queued),
    )


def _since(then: datetime | None) -> float:
    return max(0.0, (read_clock() - then).total_seconds()) if then else 0.0


def _long(seconds: float) -> str:
    """Return a time in the largest unit that fits."""
    for length, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
