"""A PostgreSQL for one test process, and a data folder that vanishes with it.

pytest loads this first (`-p tests.harness.throwaway`), before anything reads the settings. A keeper
process holds the server and ends with our end of its pipe: also when pytest is killed.
AMPLIFIERD_TEST_DATABASE_URL names a server to be used instead.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from amplifierd import env
from amplifierd.common.program import BASE_DIR

_keeper: subprocess.Popen[bytes] | None = None


# Container images often set this. Each of the hundreds of processes that tests start would compile
# all of its modules anew, and each test process all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def _redirect() -> str:
    """Point the settings at a fresh data folder, and at the models that are here already."""
    home = env.folder("AMPLIFIERD_HOME", Path("~/.amplifierd"))
    os.environ["AMPLIFIERD_MODELS"] = str(env.folder("AMPLIFIERD_MODELS", home / "models"))
    # Empty, it is as good as unset, yet keeps a `.env` file from setting it.
    os.environ["DATABASE_URL"] = env.text("AMPLIFIERD_TEST_DATABASE_URL")
    # Races have more callers than a web process has threads.
    os.environ["AMPLIFIERD_POOL"] = "80"
    os.environ["AMPLIFIERD_HOME"] = fresh = tempfile.mkdtemp(prefix="amplifierd-test-")
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    return fresh


HOME = _redirect()
# Who starts the tests in the background may have Ctrl-C ignored, and what they start would be too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the server; it comes up while the tests are collected."""
    global _keeper
    if not os.environ["DATABASE_URL"] and not _only_hands_out(config):
        _keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.cluster", "keep", HOME],
            cwd=BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )


def _only_hands_out(config: pytest.Config) -> bool:
    """Tell whether this process runs no tests itself, but hands them out to others (xdist)."""
    return bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish() -> None:
    """Wait for the server: the tests are next."""
    if _keeper and _keeper.stdout and not _keeper.stdout.readline():
        pytest.exit("The PostgreSQL of the tests did not start; see above.", returncode=3)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Stop the server."""
    if _keeper:
        _keeper.communicate()
