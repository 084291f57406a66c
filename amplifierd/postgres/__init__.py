"""A private, real PostgreSQL below the data folder, for when no DATABASE_URL is set."""

from amplifierd.postgres.cluster import EmbeddedPostgres, Revival, running
from amplifierd.postgres.data_folder import PostgresError, embedded_url
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
