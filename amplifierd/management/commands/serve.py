"""`manage.py serve`: the whole daemon on one machine."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from amplifierd import __version__, commandline
from amplifierd.auth import exposure, links
from amplifierd.auth.exposure import add_proxy_option
from amplifierd.common import errors
from amplifierd.common.migrations import is_migrated
from amplifierd.common.program import command
from amplifierd.common.statements import close_connections
from amplifierd.postgres import (
    EmbeddedPostgres,
    PostgresError,
    Revival,
    embedded_url,
    leaving_on_signals,
    running,
)
from amplifierd.postgres.schema import check_schema, wait_until_writable
from amplifierd.supervisor import instance
from amplifierd.supervisor.fork import can_fork, preload
from amplifierd.supervisor.supervisor import GRACE, Child, Supervisor
from sessions_app.engine.model_files import SMOLLM2
from sessions_app.engine.tools.sandbox import conceal


class Command(BaseCommand):
    help = "Run the daemon: database, web and worker processes. Ctrl-C drains, a second one stops."
    # They would delay the first answer; `make lint` runs them.
    requires_system_checks: list[str] = []

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.console = Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=True)

    def add_arguments(self, parser: CommandParser) -> None:
        add_proxy_option(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        conceal()
        exposure.check(settings.HOST)
        try:
            with leaving_on_signals():
                self.serve()
        except KeyboardInterrupt:
            raise CommandError("Stopped while it was starting.", returncode=130) from None
        except (instance.AlreadyRunning, instance.PortTaken, PostgresError) as error:
            raise CommandError(str(error)) from None
        except errors.DATABASE_UNAVAILABLE as error:
            raise CommandError(f"The database {errors.describe(error)}.") from None

    def serve(self) -> None:
        """Start everything in order: each part needs the one before it.

        1. The data folder is ours. 2. The port is ours: from here on a client that connects waits
        instead of being refused. 3. The database runs, and has its tables and the shipped profiles.
        4. The processes run, until a signal. Then everything ends in the reverse order.
        """
        with ExitStack() as stack:
            claim = stack.enter_context(instance.claim(settings.HOME))
            listener = stack.enter_context(self.listen(claim))
            url = instance.address(listener, "https" if settings.TLS_CERT else "http")
            claim.note(url, settings.PREFIX)
            postgres = stack.enter_context(self.database())
            self.prepare(waits=postgres is None)
            exposure.check_keys(settings.HOST)
            self.introduce(url, postgres)
            self.supervise(listener, postgres)
        self.say("Stopped.")

    def listen(self, claim: instance.Claim) -> socket.socket:
        """Listen; if processes of a killed daemon still hold the port, wait for their end."""
        try:
            return instance.listen(settings.HOST, settings.PORT)
        except instance.PortTaken:
            if not claim.inherited:
                raise
        self.say("Waiting for the processes of a killed daemon to release the port")
        patience = settings.DRAIN_SECONDS + GRACE
        return instance.listen(settings.HOST, settings.PORT, patience)

    @contextmanager
    def database(self) -> Iterator[EmbeddedPostgres | None]:
        """Keep the embedded server running; None if DATABASE_URL names another database."""
        if embedded_url(settings.HOME) != settings.DATABASE_URL:
            yield None
            return
        with running(settings.HOME, announce=self.say) as postgres:
            yield postgres

    def prepare(self, waits: bool) -> None:
        """Migrate the database, load the shipped profiles, and create the root directory.

        If it `waits`, a database that is away, starting or a standby may come back at any time.
        """
        settings.ROOT_DIR.mkdir(parents=True, exist_ok=True)
        while True:
            if waits:
                wait_until_writable(self.say)
            try:
                call_command("migrate", verbosity=0, interactive=False)
                check_schema()
                call_command("load_profiles", verbosity=0)
                # The processes that are forked know it from here, and need not look at each
                # migration.
                is_migrated()
                return
            except errors.DATABASE_UNAVAILABLE:
                if not waits:
                    raise
                close_connections()

    def introduce(self, url: str, postgres: EmbeddedPostgres | None) -> None:
        """Print what runs and how to reach it."""
        database = f"embedded PostgreSQL {postgres.version}" if postgres else "from DATABASE_URL"
        self.say(f"amplifierd {__version__}", style="bold")
        self.say(f"  API        {url}{settings.PREFIX}/api/v1/")
        self.say(f"  Console    {url}{settings.PREFIX}/admin/")
        self.say(f"  Data       {settings.HOME}")
        self.say(f"  Database   {database}")
        processes = f"{settings.WEB_PROCESSES} web, {settings.WORKER_PROCESSES} worker"
        self.say(f"  Processes  {processes}")
        if settings.REQUIRE_KEYS:
            self.say(f"  Keys       required; `{command('apikeys create NAME')}` creates one")
        self.invite(url)

    def invite(self, url: str) -> None:
        """Print how to sign in to the console: with a link, if only this machine can reach it."""
        if not settings.PUBLIC:
            self.say(f"  Sign in    {links.make_link(url)}")
            self.say(
                f"             once, within 15 minutes; `{command('console_link')}` makes another"
            )
        elif not get_user_model().objects.filter(is_superuser=True).exists():
            self.say(f"  Hint       `{command('createsuperuser')}` creates a login for the console")

    def supervise(self, listener: socket.socket, postgres: EmbeddedPostgres | None) -> None:
        # This process needs the database no longer.
        close_connections()
        preload()
        port = listener.getsockname()[1]
        supervisor = Supervisor(
            children(listener.fileno()),
            announce=self.say,
            drain_seconds=settings.DRAIN_SECONDS,
            environment={"DATABASE_URL": settings.DATABASE_URL, "AMPLIFIERD_PORT": str(port)},
            heartbeat=Revival(postgres, self.say) if postgres else lambda: None,
        )
        if not supervisor.run():
            raise CommandError(
                "Stopped at once. Runs that were under way continue at the next start.",
                returncode=130,
            )

    def say(self, line: str, style: str = "") -> None:
        """Print a line, unless the terminal is gone."""
        with contextlib.suppress(OSError):
            self.console.print(line, style=style)


def children(fd: int) -> list[Child]:
    """Return the processes of the daemon: web on the socket `fd`, workers, the model's download."""
    manage = settings.BASE_DIR / "manage.py"
    program = [sys.executable, *([str(manage)] if manage.exists() else ["-P", "-m", "amplifierd"])]

    def child(name: str, *arguments: str, fds: tuple[int, ...] = (), once: bool = False) -> Child:
        function = partial(commandline.run, ["amplifierd", *arguments]) if can_fork() else None
        return Child(name, [*program, *arguments], function, fds, once)

    processes = [
        *(
            child(f"web {n + 1}", "run_web", "--fd", str(fd), fds=(fd,))
            for n in range(settings.WEB_PROCESSES)
        ),
        *(child(f"worker {n + 1}", "run_worker") for n in range(settings.WORKER_PROCESSES)),
    ]
    if settings.FETCH_MODEL and not (settings.MODELS_DIR / SMOLLM2.name).exists():
        processes.append(child("model", "fetch_model", once=True))
    return processes
