"""The command line: `amplifierd COMMAND`, and `manage.py COMMAND` in a checkout.

It imports little, so that `--version` and the terminal's commands answer at once.
"""

import logging
import os
import sys
from collections.abc import Sequence

from amplifierd import __version__
from amplifierd.common.program import command

# They go on through an outage of the database, which the log should tell of.
LONG_RUNNING = {"serve", "run_web", "run_worker"}
# They talk to a daemon, and need neither the settings nor the database.
TERMINAL = {"approvals", "chat", "sessions"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name (default: those of this process).

    Exits with code 1 and a reason if the settings or the database are the cause of a failure;
    `--traceback` shows where it came from.
    """
    arguments = list(sys.argv if argv is None else argv)
    if arguments[1:] in (["--version"], ["version"]):
        print(f"amplifierd {__version__}")
        return
    if arguments[1:2] and arguments[1] in TERMINAL:
        sys.exit(run_terminal(arguments))
    # Most settings follow from it, so it must be known before they are read.
    if "--behind-proxy" in arguments:
        os.environ["AMPLIFIERD_BEHIND_PROXY"] = "1"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "amplifierd.settings")
    try:
        run(arguments)
    except KeyboardInterrupt:
        # Also while modules are being loaded: the person who stopped it knows why it ends.
        sys.exit(130)


def run_terminal(argv: Sequence[str]) -> int:
    """Run a command of the terminal; return its exit code."""
    # It loads the `.env` file, which may say where the daemon is.
    import amplifierd.env  # noqa: F401
    from sessions_app.cli.main import main as run_command

    return run_command(argv[1:])


def run(argv: Sequence[str]) -> None:
    """Run a management command, with the embedded PostgreSQL up if no DATABASE_URL is set."""
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    from amplifierd.common import errors
    from amplifierd.postgres import serving

    if not LONG_RUNNING.intersection(argv[1:2]):
        # The reason in which the command ends says what the pool warns of.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    expected = (ImproperlyConfigured, OSError, *errors.DATABASE_UNAVAILABLE)
    try:
        with serving(argv):
            execute_from_command_line(list(argv))
    except expected as error:
        if "--traceback" in argv or (isinstance(error, OSError) and not error.filename):
            raise
        sys.exit(_describe(error))


def _describe(error: Exception) -> str:
    from django.core.exceptions import ImproperlyConfigured

    from amplifierd.common import errors

    if isinstance(error, ImproperlyConfigured):
        return f"The settings cannot be used. {str(error).strip().partition(chr(10))[0]}"
    if isinstance(error, OSError):
        return f"{error.filename} cannot be used: {error.strerror}. Is AMPLIFIERD_HOME yours?"
    return f"The database {errors.describe(error)}. `{command('doctor')}` says why."
