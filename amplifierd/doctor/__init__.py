"""What is wrong with this installation, and what to do: one check of each part that it needs."""

from collections.abc import Callable, Iterator

from django.db import Error

from amplifierd.doctor import database, machine, reach
from amplifierd.doctor.findings import Finding, Level, error

Check = Callable[[], Iterator[Finding]]

# Those that need no database, and those that do.
BEFORE: tuple[Check, ...] = (
    machine.python,
    machine.packages,
    machine.extensions,
    machine.home,
    machine.disk,
    machine.model,
    reach.port,
    reach.address,
    reach.proxies,
)
WITH_DATABASE: tuple[Check, ...] = (
    database.migrations,
    database.clock,
    database.connections,
    database.workers,
    database.queue,
    database.leases,
    machine.variables,
    reach.api_keys,
)


def examine() -> Iterator[Finding]:
    """Yield what is found, one thing after the other; nothing is changed.

    An embedded database that is there and does not run is brought up for the time it takes.
    """
    for check in BEFORE:
        yield from check()
    with database.open_database() as finding:
        yield finding
        if finding.level is Level.ERROR or finding is database.NOT_MADE:
            return
        for check in WITH_DATABASE:
            yield from _run_check(check)


def _run_check(check: Check) -> Iterator[Finding]:
    """Yield what a check finds; one that fails in the database does not stop the others."""
    try:
        yield from check()
    except Error as failure:
        says = f"could not be checked: {str(failure).partition(chr(10))[0]}"
        yield error(check.__name__, says, "Fix first what is wrong with the database.")
