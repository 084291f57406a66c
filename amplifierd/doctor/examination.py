"""The looks, in the order in which one thing needs the other."""

from collections.abc import Callable, Iterator

from django.db import Error

from amplifierd.doctor import database, keys, machine, reach, work
from amplifierd.doctor.findings import Finding, Level, error

Look = Callable[[], Iterator[Finding]]

# Those that need no database, and those that do.
BEFORE: tuple[Look, ...] = (
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
WITH_DATABASE: tuple[Look, ...] = (
    database.migrations,
    database.clock,
    database.connections,
    work.workers,
    work.queue,
    work.leases,
    keys.variables,
    reach.api_keys,
)


def examine() -> Iterator[Finding]:
    """Yield what is found, one thing after the other; nothing is changed.

    An embedded database that is there and does not run is brought up for the time it takes.
    """
    for look in BEFORE:
        yield from look()
    with database.held() as finding:
        yield finding
        if finding.level is Level.ERROR or finding is database.NOT_MADE:
            return
        for look in WITH_DATABASE:
            yield from _looked(look)


def _looked(look: Look) -> Iterator[Finding]:
    """Yield what a look finds; one that the database refuses does not keep the others from it."""
    try:
        yield from look()
    except Error as refusal:
        says = f"could not be looked at: {str(refusal).partition(chr(10))[0]}"
        yield error(look.__name__, says, "Mend what is said of the database and its migrations.")
