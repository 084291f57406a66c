"""POST /sessions/cleanup"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from amplifierd.common.callers import Everyone, Owner
from sessions_app.models import Event, Message, Session
from sessions_app.services import messages, sessions
from sessions_app.states import SessionStatus
from tests.conftest import Api

Make = Callable[..., Session]


@pytest.fixture
def aged(make: Make) -> Callable[..., Session]:
    """`aged("completed", 40)`: a session of that status and age in days."""

    def age(status: str, days: int, **options: Any) -> Session:
        session = make(status, **options)
        then = timezone.now() - timedelta(days=days)
        moved = {"created_at": then, "ended_at": then if session.ended_at else None}
        Session.objects.filter(pk=session.id).update(**moved)
        return session

    return age


def left() -> set[str]:
    return set(Session.objects.values_list("id", flat=True))


def test_what_ended_a_month_ago_is_removed(api: Api, aged: Make) -> None:
    for status in SessionStatus:
        aged(status, 31)
    kept = {aged(status, 29).id for status in SessionStatus}
    kept |= set(Session.objects.filter(status="active").values_list("id", flat=True))
    response = api("post", "/sessions/cleanup")
    assert response.status_code == 200
    assert response.json() == {"removed_count": 4, "removedCount": 4, "dryRun": False}
    assert left() == kept


def test_the_age_counts_from_the_end(api: Api, aged: Make) -> None:
    session = aged("completed", 40)
    Session.objects.filter(pk=session.id).update(ended_at=timezone.now())
    assert api("post", "/sessions/cleanup", {}).json()["removed_count"] == 0
    assert api("post", "/sessions/cleanup/", {"olderThanDays": 0}).json()["removed_count"] == 1


def test_only_one_status_may_be_asked_for(api: Api, aged: Make) -> None:
    failed, created = aged("failed", 40), aged("created", 40)
    body = {"status": "created", "older_than_days": 30}
    assert api("post", "/sessions/cleanup", body).json()["removed_count"] == 1
    assert created.id not in left()
    assert failed.id in left()


def test_a_dry_run_only_counts(api: Api, aged: Make) -> None:
    session = aged("completed", 40)
    response = api("post", "/sessions/cleanup", {"dry_run": True})
    assert response.json() == {"removed_count": 1, "removedCount": 1, "dryRun": True}
    assert left() == {session.id}


def test_children_stay_without_a_parent(api: Api, aged: Make, make: Make) -> None:
    parent = aged("completed", 40)
    child = make("active", parent_session_id=parent.id)
    messages.add(child.id, "I stay")
    api("post", "/sessions/cleanup")
    child.refresh_from_db()
    assert child.parent_id is None
    assert Message.objects.count() == 1
    assert not Event.objects.filter(session_id=parent.id).exists()


def test_an_active_session_is_never_removed(api: Api, aged: Make) -> None:
    session = aged("active", 400)
    response = api("post", "/sessions/cleanup", {"status": "active", "older_than_days": 0})
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert "never removed" in response.json()["detail"]
    assert left() == {session.id}


@pytest.mark.parametrize(
    "body",
    [
        {"older_than_days": -1},
        {"older_than_days": 10**9},
        {"older_than_days": "month"},
        {"older_than_days": None},
        {"status": "gone"},
        {"dry_run": "perhaps"},
        {"older": 3},
        [],
    ],
)
def test_what_makes_no_sense_is_refused(api: Api, aged: Make, body: Any) -> None:
    session = aged("completed", 400)
    response = api("post", "/sessions/cleanup", body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert left() == {session.id}


def test_only_sessions_of_the_owner_are_removed(aged: Make) -> None:
    mine, other = aged("completed", 40), aged("completed", 40)
    Session.objects.filter(pk=mine.id).update(owner="me")
    assert sessions.remove(sessions.find_removable(Owner("me"))) == 1
    assert left() == {other.id}


def test_batches_reach_all(aged: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "BATCH", 2)
    for _ in range(5):
        aged("completed", 40)
    assert sessions.remove(sessions.find_removable(Everyone())) == 5


def test_a_session_that_was_started_meanwhile_is_left(aged: Make) -> None:
    session = aged("created", 40)

    def start(execute: Any, sql: str, *rest: Any) -> Any:
        if "FOR UPDATE" in sql:
            now = timezone.now()
            Session.objects.filter(pk=session.id).update(status="active", started_at=now)
        return execute(sql, *rest)

    with connection.execute_wrapper(start):
        assert sessions.remove(sessions.find_removable(Everyone())) == 0
    assert left() == {session.id}
