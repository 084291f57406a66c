"""The embedded PostgreSQL, running while a management command needs it."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from amplifierd import env
from amplifierd.postgres.cluster import running
from amplifierd.postgres.data_folder import PostgresError

# `serve` starts the server itself, to keep it running; `doctor` reports what prevents its start.
NO_DATABASE = frozenset(
    "check collectstatic compilemessages diffsettings doctor fetch_model findstatic help"
    " makemessages serve startapp startproject version".split()
)
NO_COMMAND = {"-h", "--help", "--version"}


@contextmanager
def serving(argv: Sequence[str]) -> Iterator[None]:
    """Hold a share of the embedded server while the block runs, if the command line needs one.

    None is needed if DATABASE_URL names a database; the daemon's own processes get it that way.
    Ends the program with a message if the server cannot be started.
    """
    needs_one = len(argv) > 1 and argv[1] not in NO_DATABASE and not NO_COMMAND.intersection(argv)
    try:
        is_embedded = needs_one and bool(settings.HOME) and not env.text("DATABASE_URL")
    except ImproperlyConfigured:
        # The command itself reports what is wrong with the settings.
        is_embedded = False
    if not is_embedded:
        yield
        return

    def announce(line: str) -> None:
        sys.stderr.write(f"{line} …\n" if sys.stderr.isatty() else f"{line}\n")

    try:
        with leaving_on_signals(), running(settings.HOME, announce=announce):
            yield
    except PostgresError as error:
        sys.exit(str(error))


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end the block so that its `finally` clauses run.

    A signal that something else handles, or ignores (`nohup`), is left alone.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    plain = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in plain:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in plain:
            signal.signal(number, signal.SIG_DFL)
