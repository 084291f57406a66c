"""A private, real PostgreSQL below the data folder, for when no DATABASE_URL is set."""

from amplifierd.postgres.cluster import EmbeddedPostgres, running
from amplifierd.postgres.exceptions import PostgresError
from amplifierd.postgres.layout import embedded_url
from amplifierd.postgres.revival import Revival
from amplifierd.postgres.serving import leaving_on_signals, serving

__all__ = [
    "EmbeddedPostgres",
    "PostgresError",
    "Revival",
    "embedded_url",
    "leaving_on_signals",
    "running",
    "serving",
]
