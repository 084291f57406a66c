"""The command line: `amplifierd COMMAND`, and `manage.py COMMAND` in a checkout.

It imports little, so that `--version` and the terminal's commands answer at once.
"""

import logging
import os
import sys
from collections.abc import Sequence

from amplifierd import __version__
from amplifierd.common.program import command, env_file

# They go on during an outage of the database, which should be in the log.
LONG_RUNNING = {"serve", "run_web", "run_worker"}
# They call a daemon, and need neither the settings nor the database.
TERMINAL = {"approvals", "chat", "sessions"}
# It needs the settings, and neither apps nor database.
CONSOLE_LINK = ["console_link"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name (default: those of this process).

    Exits with code 1 and a reason if it fails because of the settings or the database;
    `--traceback` shows where that happened.
    """
    arguments = list(sys.argv if argv is None else argv)
    if arguments[1:] in (["--version"], ["version"]):
        print(f"amplifierd {__version__}")
        return
    if arguments[1:2] and arguments[1] in TERMINAL:
        sys.exit(run_terminal(arguments))
    # Other settings depend on it, so it must be known before they are read.
    if "--behind-proxy" in arguments:
        os.environ["AMPLIFIERD_BEHIND_PROXY"] = "1"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "amplifierd.settings")
    try:
        run(arguments)
    except KeyboardInterrupt:
        # Also while modules are being loaded. No message: a person has stopped it.
        sys.exit(130)


def run_terminal(argv: Sequence[str]) -> int:
    from sessions_app.cli.main import main as run_command

    # It may have the URL of the daemon. Imported only if necessary, because it is slow.
    if (file := env_file()).exists():
        from dotenv import load_dotenv

        load_dotenv(file)

    return run_command(argv[1:])


def run(argv: Sequence[str]) -> None:
    """Run a management command; if it fails as `explain` knows, exit with the reason."""
    try:
        if list(argv[1:]) == CONSOLE_LINK:
            # Without Django's apps and the database, which take seconds.
            from amplifierd.auth import links

            try:
                links.print_link()
            except links.InvalidLink as error:
                sys.exit(str(error))
        else:
            execute(argv)
    except Exception as error:
        reason = "" if "--traceback" in argv else explain(error)
        if not reason:
            raise
        sys.exit(reason)


def execute(argv: Sequence[str]) -> None:
    """Run a command of Django, with the embedded PostgreSQL if no DATABASE_URL is set."""
    from django.core.management import execute_from_command_line

    from amplifierd.postgres import serving

    if not LONG_RUNNING.intersection(argv[1:2]):
        # The message with which the command ends has what the pool would warn of.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    with serving(argv):
        execute_from_command_line(list(argv))


def explain(error: Exception) -> str:
    """Return why the settings, a file or the database ended a command; empty for other errors."""
    from django.core.exceptions import ImproperlyConfigured

    from amplifierd.common import errors

    if isinstance(error, ImproperlyConfigured):
        return f"The settings cannot be used. {str(error).strip().partition(chr(10))[0]}"
    if isinstance(error, OSError):
        if not error.filename:
            return ""
        return f"{error.filename} cannot be used: {error.strerror}. Is AMPLIFIERD_HOME yours?"
    if isinstance(error, errors.DATABASE_UNAVAILABLE):
        return f"The database {errors.describe(error)}. `{command('doctor')}` says why."
    return ""
