"""What every test may use: a session in any state, and the API as a client sees it."""

import gc
import json
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client, TransactionTestCase
from pytest_django import DjangoDbBlocker

from amplifierd.common.callers import Everyone
from sessions_app.models import Attempt, Session
from sessions_app.services import attempts, journal, runs, sessions
from sessions_app.services.journal import Entry
from sessions_app.states import SessionStatus
from sessions_app.streaming import notifier
from tests.harness.databases import Baseline

MOCK = "foundation/test"
# The real one takes half a second, on purpose, whenever somebody signs in.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Every test's client would search all static files first, for 30 ms, and few tests ask for one.
settings.WHITENOISE_AUTOREFRESH = True


# Folders with slow files first, so that no process has one left when the others are done.
ORDER = ("browser", "acceptance", "integration", "api", "unit")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect without looking for garbage, now and later: what is made here stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# Seconds for a test that is long by its nature.
LONG = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by their folders, and give the long ones time."""
    items.sort(key=lambda item: [name not in item.path.parts for name in ORDER])
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG))


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """The test database starts as a copy of the one that the cluster comes with."""
    if not os.environ["DATABASE_URL"]:
        settings.DATABASES["default"]["TEST"]["TEMPLATE"] = settings.DATABASES["default"]["NAME"]


@pytest.fixture(scope="session")
def django_db_setup(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[Baseline]:
    """The test database, with the catalogue; whoever holds it lets go before it is dropped."""
    with django_db_blocker.unblock():
        call_command("load_profiles", verbosity=0)
        baseline = Baseline()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda self: baseline.restore())
        yield baseline
    notifier.close()
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def catalogue(db: None) -> None:
    """The shipped profiles and the root directory, which are there before every test."""


@pytest.fixture
def no_catalogue(db: None) -> None:
    """A database without a profile, a collection or a directory, as before the first start."""
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE profiles_app_profile, profiles_app_collection,"
            " profiles_app_amplifieddirectory CASCADE"
        )


def session_in(status: str, **options: Any) -> Session:
    """Make a session and lead it to a status, through the services."""
    session = sessions.create(**{"profile_name": MOCK, "sees": Everyone(), **options})
    if status != SessionStatus.CREATED:
        sessions.start(session.id)
    if status == SessionStatus.FAILED:
        sessions.fail(session.id, "it broke")
    elif status == SessionStatus.COMPLETED:
        sessions.complete(session.id)
    elif status == SessionStatus.TERMINATED:
        sessions.terminate(session.id)
    session.refresh_from_db()
    return session


def started(session_id: str) -> Session:
    """Start a session and return it."""
    sessions.start(session_id)
    return Session.objects.get(pk=session_id)


@pytest.fixture
def make(catalogue: None) -> Callable[..., Session]:
    """`make("active")`: a session in that status."""
    return session_in


@pytest.fixture
def session(make: Callable[..., Session]) -> Session:
    """An active session on the mock provider."""
    return make(SessionStatus.ACTIVE)


@pytest.fixture
def attempt(session: Session) -> Attempt:
    """A claimed run of the active session, as a worker holds it."""
    return claimed(session)


def claimed(session: Session, content: str = "hello", worker: str = "worker-1") -> Attempt:
    """Send a message and claim its run."""
    runs.send(session.id, content)
    attempt = attempts.claim(session.id, worker)
    assert attempt is not None
    return attempt


def say(attempt: Attempt, *pieces: str) -> dict[str, int]:
    """Journal pieces of text for an attempt, as a worker does; return what was written."""
    return write_events(attempt, *(("content", {"content": piece}) for piece in pieces))


def write_events(attempt: Attempt, *events: tuple[str, dict[str, Any]]) -> dict[str, int]:
    """Journal events of an attempt, given by type and data, as a worker does."""
    return journal.flush({attempt: [Entry(kind, data, attempt.run_id) for kind, data in events]})


class Api:
    """The REST API below /api/v1: JSON in, (status, body) out."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request; without a body it has no content type either, as curl sends it."""
        data, kind = (b"", "") if body is None else (json.dumps(body), "application/json")
        return self.client.generic(
            method.upper(), f"/api/v1{path}", data, content_type=kind, headers=headers
        )


@pytest.fixture
def api(catalogue: None) -> Api:
    """A client of the API."""
    return Api(Client())
