"""A web process that the terminal's commands talk to."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from sessions_app.models import Process
from tests.integration.terminal import WebProcess, serve_web


@pytest.fixture(scope="module")
def web_process(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[WebProcess]:
    """A web process for the tests of a module; those of others count connections and processes."""
    with serve_web() as web:
        yield web
    with django_db_blocker.unblock():
        Process.objects.all().delete()


@pytest.fixture
def web(web_process: WebProcess, monkeypatch: pytest.MonkeyPatch) -> WebProcess:
    """The daemon that commands find."""
    monkeypatch.setenv("AMPLIFIERD_URL", web_process.url)
    return web_process
