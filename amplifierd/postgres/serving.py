"""The embedded PostgreSQL for management commands, while they run."""

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

# `serve` brings the server up itself, to keep it up; `doctor` says
# what it is that keeps the server from coming up.
NO_DATABASE = {
    "check",
    "collectstatic",
    "compilemessages",
    "diffsettings",
    "doctor",
    "fetch_model",
    "findstatic",
    "help",
    "makemessages",
    "serve",
    "startapp",
    "startproject",
    "version",
}
NO_COMMAND = {"-h", "--help", "--version"}


@contextmanager
def serving(argv: Sequence[str]) -> Iterator[None]:
    """Hold a share of the embedded server while the block runs, if the command line needs one.

    It needs none where DATABASE_URL says which database to use. Ends the program with a
    message if the server cannot be started.
    """
    if not (_needs_database(argv) and _is_embedded()):
        yield
        return
    try:
        with leaving_on_signals(), running(settings.HOME, announce=_announce):
            yield
    except PostgresError as error:
        sys.exit(str(error))


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the block by way of its `finally` clauses.

    Where something else handles a signal, or ignores it (`nohup`), it stays so.
    """
    plain = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in plain:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in plain:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _announce(line: str) -> None:
    sys.stderr.write(f"{line} …\n" if sys.stderr.isatty() else f"{line}\n")


def _needs_database(argv: Sequence[str]) -> bool:
    """Tell whether the command line (its first word is the program) needs a database."""
    if len(argv) < 2 or NO_COMMAND.intersection(argv):
        return False
    return argv[1] not in NO_DATABASE


def _is_embedded() -> bool:
    """Tell whether the database is ours to bring up; Django reports settings that are wrong."""
    try:
        # The daemon's own processes are told the URL: it keeps the server up for them.
        return bool(settings.HOME) and not env.text("DATABASE_URL")
    except ImproperlyConfigured:
        return False
