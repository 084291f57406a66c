"""Running a management command: what stops it is said in one sentence, whichever command it is."""

import logging
import sys
from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from amplifierd.common import errors
from amplifierd.postgres import serving

# They outlive an absence of the database, and the log should tell of it.
LASTING = {"serve", "run_web", "run_worker"}


def run(argv: Sequence[str]) -> None:
    """Run it, with the embedded PostgreSQL up where no DATABASE_URL is set.

    Ends the program with exit code 1 and a reason where the settings or the database are at fault;
    `--traceback` shows where it came from.
    """
    if not LASTING.intersection(argv[1:2]):
        # What the pool warns of is said by the reason in which the command ends.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    if "--traceback" in argv:
        _run(argv)
        return
    try:
        _run(argv)
    except ImproperlyConfigured as error:
        sys.exit(f"The settings cannot be used. {_first_line(error)}")
    except OSError as error:
        if not error.filename:
            raise
        sys.exit(f"{error.filename} cannot be used: {error.strerror}. Is AMPLIFIERD_HOME yours?")
    except errors.DATABASE_UNAVAILABLE as error:
        sys.exit(f"The database {errors.describe(error)}. `manage.py doctor` says why.")


def _run(argv: Sequence[str]) -> None:
    with serving(argv):
        execute_from_command_line(list(argv))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
