"""Knowing that the database is away, for a moment.

A request finds out by waiting for a connection. Those behind it need not wait as well: for a second
after a failed attempt they are refused, then one finds out anew. Knows nothing of Django, because
the settings import it.
"""

import time
from typing import Any

# Seconds for which a failed attempt speaks for all requests.
HOLD = 1.0

_known_until = 0.0


def noticed(_pool: Any = None) -> None:
    """Take note that the pool could not connect; psycopg's pool calls this."""
    global _known_until
    _known_until = time.monotonic() + HOLD


def is_known() -> bool:
    """Tell whether an attempt to connect has failed just now."""
    return time.monotonic() < _known_until
