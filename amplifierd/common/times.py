"""Times as the API writes them."""

from datetime import UTC, datetime


def stamp(moment: datetime) -> str:
    """Return ISO 8601 in UTC with microseconds and Z: 2026-01-31T09:00:00.000000Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
