"""Processes that tell that they are there, for people who look whether any are."""

import os
import socket
from datetime import timedelta

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from sessions_app.models import Process

# Seconds between two times that a process tells, and until it counts as gone.
BEAT = 5.0
GONE = 15.0
# Seconds for which the row of one that is gone is kept.
KEPT = 3600.0

TELL = """
INSERT INTO sessions_app_process (name, kind, started_at, seen_at, streams, feeds)
VALUES (%(name)s, %(kind)s, statement_timestamp(), statement_timestamp(), %(streams)s, %(feeds)s)
ON CONFLICT (name) DO UPDATE SET
    seen_at = excluded.seen_at, streams = excluded.streams, feeds = excluded.feeds,
    -- another process of this number is another process
    started_at = CASE WHEN sessions_app_process.seen_at > excluded.seen_at - %(gone)s
        AND sessions_app_process.kind = excluded.kind
        THEN sessions_app_process.started_at ELSE excluded.started_at END,
    kind = excluded.kind
"""


def own_name() -> str:
    """Return the name by which this process is known to others: its host and number."""
    return f"{socket.gethostname()}:{os.getpid()}"


def tell(name: str, kind: str, streams: int = 0, feeds: int = 0) -> None:
    """Write that a process is there, and forget those that have long been gone."""
    counts = {"streams": streams, "feeds": feeds}
    gone = timedelta(seconds=GONE)
    with connection.cursor() as cursor:
        cursor.execute(TELL, {"name": name, "kind": kind, "gone": gone, **counts})
    Process.objects.filter(seen_at__lt=Now() - timedelta(seconds=KEPT)).delete()


def alive() -> QuerySet[Process]:
    """Return the processes that have told of themselves of late."""
    return Process.objects.filter(seen_at__gte=Now() - timedelta(seconds=GONE))
