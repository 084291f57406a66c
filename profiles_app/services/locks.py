"""One lock for what concerns the catalogue as a whole."""

from django.db import connection

# Any number that nothing else in the database locks.
CATALOGUE = 0x70726F66


def lock_catalogue() -> None:
    """Wait until no other transaction loads, removes or activates profiles; held until the end."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CATALOGUE])
