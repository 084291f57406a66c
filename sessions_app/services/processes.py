"""Heartbeats of processes, for people who want to know which ones are running."""

import os
import socket
from datetime import timedelta

from django.db.models import QuerySet
from django.db.models.functions import Now

from amplifierd.common.statements import fetch_prepared
from sessions_app.models import Process

# Seconds between two heartbeats of a process, and without one until the process counts as gone. A
# worker looks at its queue at the same moments.
HEARTBEAT_SECONDS = 4.0
GONE_SECONDS = 15.0

# Records a process, and returns the living workers.
RECORD = """
WITH recorded AS (
INSERT INTO sessions_app_process (name, kind, started_at, seen_at, streams, feeds)
VALUES (%(name)s::text, %(kind)s::text, statement_timestamp(), statement_timestamp(),
    %(streams)s::int, %(feeds)s::int)
ON CONFLICT (name) DO UPDATE SET
    seen_at = excluded.seen_at, streams = excluded.streams, feeds = excluded.feeds,
    -- a later process can have the same number
    started_at = CASE WHEN sessions_app_process.seen_at > excluded.seen_at - %(gone)s::interval
        AND sessions_app_process.kind = excluded.kind
        THEN sessions_app_process.started_at ELSE excluded.started_at END,
    kind = excluded.kind
RETURNING name, kind
)
SELECT name FROM recorded WHERE kind = 'worker'
UNION
SELECT name FROM sessions_app_process
WHERE kind = 'worker' AND seen_at >= statement_timestamp() - %(gone)s::interval
ORDER BY name
"""


def own_name() -> str:
    """Return the name of this process for others: its host and its number."""
    return f"{socket.gethostname()}:{os.getpid()}"


def record(name: str, kind: str, streams: int = 0, feeds: int = 0) -> list[str]:
    """Record that a process is running; return the names of the running workers, in order."""
    parameters = {
        "name": name,
        "kind": kind,
        "gone": timedelta(seconds=GONE_SECONDS),
        "streams": streams,
        "feeds": feeds,
    }
    return [worker for (worker,) in fetch_prepared(RECORD, parameters)]


def alive() -> QuerySet[Process]:
    """Return the processes that have sent a heartbeat lately."""
    return Process.objects.filter(seen_at__gte=Now() - timedelta(seconds=GONE_SECONDS))
