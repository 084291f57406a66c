"""A query that takes too long is stopped, and is no sign that the database is away."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections, transaction
from django.http import HttpRequest
from django.test import RequestFactory
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.response import Response

from amplifierd.common import outage, statements
from amplifierd.common.problems import problem_of
from sessions_app import connections as own_connections
from sessions_app.models import Session
from sessions_app.services import sessions

pytestmark = pytest.mark.django_db(transaction=True)


@api_view(["GET"])
@authentication_classes([])
@permission_classes([])
def sleep(request: HttpRequest) -> Response:
    """Have PostgreSQL sleep for longer than it may."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")
    return Response()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections as a web process opens them, for a second each statement."""
    options = dict(connections.settings["default"]["OPTIONS"])
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    statements.limit_statements(1)


def in_a_thread(function: Any) -> list[Any]:
    """Return what the function returns in a thread, where connections are opened anew."""
    returned: list[Any] = []

    def run() -> None:
        # A pool would be shared with all other threads, and it is connected already.
        own = connections["default"].settings_dict
        own["OPTIONS"] = {key: value for key, value in own["OPTIONS"].items() if key != "pool"}
        try:
            returned.append(function())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return returned


def test_a_query_that_takes_too_long_is_answered_with_a_reason(hurried: None) -> None:
    [answer] = in_a_thread(lambda: sleep(RequestFactory().get("/api/v1/sleep")))
    assert (answer.status_code, answer.data["code"]) == (503, "unavailable")
    assert "took too long" in answer.data["detail"]
    assert answer["Retry-After"] == "1"
    assert not outage.is_outage_known()


def test_a_long_history_may_take_its_time_to_go(make: Callable[..., Session]) -> None:
    session = make("active")
    with transaction.atomic():
        sessions.delete(session.id)
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)


def test_streams_limit_their_own_statements(hurried: None) -> None:
    with psycopg.connect(**own_connections.parameters("test")) as other:
        assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_what_is_away_is_still_called_so() -> None:
    assert "does not answer" in problem_of(OperationalError("gone")).detail
    assert "took too long" in problem_of(psycopg.errors.QueryCanceled()).detail
