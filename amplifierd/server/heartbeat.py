"""A web process tells every few seconds that it is there, and how many streams it has."""

import logging
import threading
import time

from django.db import DatabaseError, InterfaceError, connection

from sessions_app.models.process import ProcessKind
from sessions_app.services import processes
from sessions_app.streaming import feed, hub

logger = logging.getLogger(__name__)


def begin() -> None:
    """Tell from now on, from a thread that ends with the process."""
    threading.Thread(target=_go_on, name="heartbeat", daemon=True).start()


def _go_on() -> None:
    name = processes.own_name()
    while True:
        try:
            beat(name)
        except (DatabaseError, InterfaceError) as error:
            logger.debug("Nobody was told that this process is there: %s", error)
        time.sleep(processes.HEARTBEAT_SECONDS)


def beat(name: str) -> None:
    """Tell once; the connection goes back to the pool."""
    try:
        processes.record(name, ProcessKind.WEB, hub.open_streams(), feed.open_feeds())
    finally:
        connection.close()
