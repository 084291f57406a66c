"""One daemon for the tests that leave it whole; those that break it start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon, daemon
from tests.harness.sse import Watcher


@pytest.fixture(scope="module", autouse=True)
def no_watchers() -> Iterator[None]:
    """Leave no thread behind that calls a daemon which has gone."""
    yield
    Watcher.stop_all()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that no test breaks."""
    with daemon(tmp_path_factory.mktemp("shared") / "home") as shared:
        yield shared


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of the test's own."""
    with daemon(tmp_path / "home") as own:
        yield own


@pytest.fixture
def breakable_without_model(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon on a machine to which the model's files were never fetched."""
    with daemon(tmp_path / "home", AMPLIFIERD_MODELS=str(tmp_path / "none")) as own:
        yield own
