"""Heartbeats of processes, for people who want to know which ones are running."""

import os
import socket
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from sessions_app.models import Process
from sessions_app.models.daemon import ProcessKind

# Seconds between two heartbeats of a process, and without one until the process counts as gone.
HEARTBEAT_SECONDS = 5.0
GONE_SECONDS = 15.0
# Seconds for which the row of a process that is gone is kept.
KEPT_SECONDS = 3600.0

RECORD = """
INSERT INTO sessions_app_process (name, kind, started_at, seen_at, streams, feeds)
VALUES (%(name)s, %(kind)s, statement_timestamp(), statement_timestamp(), %(streams)s, %(feeds)s)
ON CONFLICT (name) DO UPDATE SET
    seen_at = excluded.seen_at, streams = excluded.streams, feeds = excluded.feeds,
    -- a later process can have the same number
    started_at = CASE WHEN sessions_app_process.seen_at > excluded.seen_at - %(gone)s
        AND sessions_app_process.kind = excluded.kind
        THEN sessions_app_process.started_at ELSE excluded.started_at END,
    kind = excluded.kind
"""


def own_name() -> str:
    """Return the name of this process for others: its host and its number."""
    return f"{socket.gethostname()}:{os.getpid()}"


def record(name: str, kind: str, streams: int = 0, feeds: int = 0) -> None:
    """Record that a process is running, and delete the rows of those that are long gone."""
    gone = timedelta(seconds=GONE_SECONDS)
    parameters: dict[str, Any] = {"name": name, "kind": kind, "gone": gone}
    with connection.cursor() as cursor:
        cursor.execute(RECORD, parameters | {"streams": streams, "feeds": feeds})
    Process.objects.filter(seen_at__lt=Now() - timedelta(seconds=KEPT_SECONDS)).delete()


def find_workers() -> list[str]:
    """Return the names of the workers that have sent a heartbeat lately, in order."""
    workers = alive().filter(kind=ProcessKind.WORKER).order_by("name")
    return list(workers.values_list("name", flat=True))


def alive() -> QuerySet[Process]:
    """Return the processes that have sent a heartbeat lately."""
    return Process.objects.filter(seen_at__gte=Now() - timedelta(seconds=GONE_SECONDS))
