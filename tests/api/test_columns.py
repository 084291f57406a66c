"""Answers that a statement reads are those that the model's objects make."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.utils import timezone

from amplifierd.common.callers import Everyone
from amplifierd.common.serializers import dump
from sessions_app.api import statements
from sessions_app.api.serializers import MessageSerializer, SessionSerializer
from sessions_app.models import Message, Session
from sessions_app.services import attempts, messages, runs, sessions

pytestmark = pytest.mark.django_db
# 1e300 is a whole number to PostgreSQL, and too large for 64 bits.
METADATA = {
    "text": 'a "quoted" \u2028 line\n',
    "large": 1e300,
    "small": -0.5,
    "deep": [{"a": None}],
}


def as_json(answer: Any) -> Any:
    """Return what a client reads."""
    return orjson.loads(dump(answer))


def as_shown(session_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the session as a statement reads it, and as the model's object makes it."""
    model = Session.objects.with_active_run().get(pk=session_id)
    read = as_json(statements.read_session(session_id, Everyone())[0])
    made = SessionSerializer.serialize(model)
    # Of a session that goes on, it grows from one to the other.
    for answer in (read, made):
        if model.ended_at is None and answer["duration"] is not None:
            assert 0 <= answer.pop("duration") < 60
    return read, made


@pytest.mark.parametrize("status", ["created", "active", "completed", "terminated"])
def test_a_session(make: Callable[..., Session], status: str) -> None:
    session = make(status)
    sessions.update(session.id, {"name": "Capitals ✓", "metadata": METADATA})
    read, made = as_shown(session.id)
    assert read == as_json({**made, "metadata": None}) | {"metadata": read["metadata"]}
    assert read["metadata"] == METADATA
    assert list(read) == list(made)


def test_a_session_that_failed_and_was_read(make: Callable[..., Session]) -> None:
    session = make("active")
    sessions.fail(session.id, "The disk is full.", {"free": 0})
    sessions.mark_read(session.id)
    read, made = as_shown(session.id)
    assert read == made
    assert read["errorDetails"] == {"free": 0}
    assert not read["isUnread"]


def test_a_session_with_a_run(make: Callable[..., Session]) -> None:
    session = make("active")
    run, _ = runs.send(session.id, "hello")
    assert as_shown(session.id)[0]["activeRunId"] is None
    attempts.claim(session.id, "worker")
    read, made = as_shown(session.id)
    assert read == made
    assert read["activeRunId"] == run.id


def test_messages(make: Callable[..., Session]) -> None:
    session = make("active")
    messages.add(session.id, 'ünï "x" \\ \u2029', role="tool", agent="a", token_count=3)
    messages.add(session.id, "\x7f\x1f", metadata=METADATA)
    read = as_json(statements.read_messages(session.id, after=None, before=None, limit=5))
    made = [MessageSerializer.serialize(m) for m in Message.objects.in_session(session.id)]
    for one, other in zip(read, made, strict=True):
        assert {**one, "metadata": 0} == {**other, "metadata": 0}
        assert list(one) == list(other)
    assert [m["metadata"] for m in read] == [{}, METADATA]


def test_a_moment_is_written_with_all_its_digits(make: Callable[..., Session]) -> None:
    session = make("created")
    Session.objects.filter(pk=session.id).update(
        created_at=timezone.now().replace(microsecond=0), name=None
    )
    assert as_shown(session.id)[0]["createdAt"].endswith(".000000Z")
