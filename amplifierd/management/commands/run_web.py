"""`manage.py run_web`: one web process."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from amplifierd.server.daphne import Server

# The reactor is installed now, before anything that uses Twisted.
# isort: split
from amplifierd.asgi import adapter, application
from amplifierd.auth import exposure
from amplifierd.auth.exposure import add_proxy_option
from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.program import favour_event_loop
from amplifierd.common.statements import WEB_PATIENCE, limit_idle_transactions, limit_statements
from amplifierd.postgres import schema
from amplifierd.server import health
from amplifierd.supervisor.instance import PortTaken, listen
from amplifierd.supervisor.supervisor import watch_parent
from sessions_app.engine.tools.sandbox import conceal
from sessions_app.streaming import feed, hub, notifier

# Open files of a web process, if the system allows as many.
FILES = 65536


class Command(BaseCommand):
    help = "Serve the API, the streams and the admin; SIGTERM or Ctrl-C drains, a second one stops."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fd", type=int, help="a listening socket that this process inherited")
        add_proxy_option(parser)

    def handle(self, *args: Any, fd: int | None, **options: Any) -> None:
        conceal()
        favour_event_loop()
        allow_many_files()
        limit_statements(settings.STATEMENT_TIMEOUT)
        limit_idle_transactions(WEB_PATIENCE)
        if fd is None:
            exposure.check(settings.HOST)
            # Start although the database is unavailable: requests are answered with 503.
            with contextlib.suppress(*DATABASE_UNAVAILABLE):
                schema.check_database()
                schema.check_schema()
            exposure.check_keys(settings.HOST)
        server = Server(
            application,
            get_listener(fd),
            tls=exposure.tls_context(),
            body_limit=settings.BODY_LIMIT,
            drain_seconds=settings.DRAIN_SECONDS,
            unread_bytes=settings.STREAM_UNREAD,
            stall_seconds=settings.STREAM_STALL,
        )
        server.on_drain.append(end_streams)
        watch_parent()
        health.start_heartbeat()
        server.run()
        notifier.close()
        leave()


def get_listener(fd: int | None) -> socket.socket:
    """Return the inherited socket, or one that listens on the address of the settings."""
    if fd is not None:
        inherited = socket.socket(fileno=fd)
        exposure.check(address_of(inherited))
        return inherited
    try:
        return listen(settings.HOST, settings.PORT)
    except PortTaken as error:
        raise CommandError(str(error)) from error


def address_of(listener: socket.socket) -> str:
    """Return the address on which a socket listens; `unix:` for a Unix socket."""
    name = listener.getsockname()
    return "unix:" if listener.family == socket.AF_UNIX else name[0]


def allow_many_files() -> None:
    """Raise the limit of open files: every stream needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


async def end_streams() -> None:
    """End every stream of this process; the clients reconnect to another one."""
    await asyncio.gather(hub.get_hub().close(), feed.get_feed().close())


def leave() -> None:
    """End the process even if a request's thread is stuck; Python would wait for it forever."""
    if not adapter.close():
        logging.shutdown()
        os._exit(1)
