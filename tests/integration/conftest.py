"""A web process that the terminal's commands talk to."""

from collections.abc import Iterator

import pytest

from tests.integration.terminal import WebProcess, serve_web


@pytest.fixture(scope="session")
def web_process(django_db_setup: None) -> Iterator[WebProcess]:
    """A web process for all tests."""
    with serve_web() as web:
        yield web


@pytest.fixture
def web(web_process: WebProcess, monkeypatch: pytest.MonkeyPatch) -> WebProcess:
    """The daemon that commands find."""
    monkeypatch.setenv("AMPLIFIERD_URL", web_process.url)
    return web_process
